"""What runs on executors: prompts, tokens, replica, client, confidence, parsing, the pandas UDF."""
