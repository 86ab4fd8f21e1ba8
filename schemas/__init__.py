"""What a user declares and what the program passes on. No Spark, no vLLM, no torch."""
