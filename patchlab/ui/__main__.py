"""`python -m patchlab.ui`: what `patchlab app` runs."""

from patchlab.ui.launch import main

if __name__ == "__main__":
    main()
