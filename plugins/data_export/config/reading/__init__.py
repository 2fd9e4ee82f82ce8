"""From the text of a YAML file to its values, with the line of every key."""
