"""Start the page: `python app.py [--host H] [--port P] [--preset NAME] [--bits 8]`, the options of `patchlab app`."""

from patchlab.ui.launch import main

if __name__ == "__main__":
    main()
