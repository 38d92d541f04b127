"""An orchestrator that answers every question with itself, at once."""

from askstream import Answer, Sink, Task, Usage


class Echo:
    model = "echo"

    async def run(self, task: Task, sink: Sink) -> Answer:
        return Answer(final_response=task.question, total_messages=1, usage=Usage(), agent_name="Echo")


echo = Echo()
