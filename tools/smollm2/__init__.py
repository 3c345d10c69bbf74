"""What makes the safer release and the patches of SmolLM2-135M-Instruct, whose open weights come as a Python package."""
