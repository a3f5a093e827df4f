"""What is asked: query, intent, filters, encoding."""
