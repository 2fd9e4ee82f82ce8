"""What is wrong with a file that a person wrote, said with line, key and fix."""
