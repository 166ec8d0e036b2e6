# docker build -t xdecoder .                           for machines without a GPU
# docker build -t xdecoder --build-arg TORCH=cuda .    for NVIDIA GPUs (docker run --gpus all)
# docker run --rm -v "$PWD:/data" -w /data xdecoder caption photo.jpg --checkpoint model.pt
FROM python:3.12-slim
ARG TORCH=cpu
WORKDIR /src
COPY . .
RUN if [ "$TORCH" = cpu ]; then \
      pip install --no-cache-dir -c constraints.txt torch torchvision --index-url https://download.pytorch.org/whl/cpu; \
    fi && pip install --no-cache-dir -c constraints.txt ".[train,export,serve,web]"
WORKDIR /data
ENTRYPOINT ["xdecoder"]
