"""The page: what a visitor sees in the browser. The only room that knows gradio and plotly. Layer 7."""
