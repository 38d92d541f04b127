"""An orchestrator that counts: no model, no AutoGen, and it resumes from its checkpoint. Asked "20 0.1": 20 in 2 s."""

import asyncio

from askstream import AgentThinking, Answer, Draft, Sink, Task, Usage


class Counting:
    model = "counting"

    async def run(self, task: Task, sink: Sink) -> Answer:
        last, pause = task.question.split()
        for number in range(int(task.checkpoint or b"0") + 1, int(last) + 1):
            await sink.emit(Draft("Counter", str(number), AgentThinking()))
            await sink.checkpoint(str(number).encode())
            await asyncio.sleep(float(pause))
        return Answer(final_response=f"up to {last}", total_messages=int(last), usage=Usage(), agent_name="Counter")


counting = Counting()
