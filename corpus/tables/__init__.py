"""Tables as people save them: encodings, columns, dates, and damage by spreadsheets."""
