"""The command line: one module a command. Only click is imported until a command runs."""
