"""Applications as their authors write them, run by name: `uvicorn tests.embedding.hosts:alone`. Data by environment."""

from fastapi import FastAPI

import askstream
from tests.embedding.counting import counting

alone = askstream.create_app(orchestrator=counting)

mounted = FastAPI(lifespan=alone.lifespan)
mounted.mount("/ai", alone)

unstarted = FastAPI()
unstarted.mount("/ai", askstream.create_app(orchestrator=counting))
