"""What makes the patch of SmolLM2-135M-Instruct, a real model whose open weights come as a Python package."""
