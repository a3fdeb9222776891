"""The faults that a sync is struck by."""

import random
import signal
import time

from attempts import Point
from places import Place
from trials import PATIENCE, Fault, Running, Trials

# Where a worker can be killed: the steps of every destination, and what its process does around them.
PHASES = (
    "landing.resume", "landing.stage", "landing.stage_keys", "landing.duplicates", "landing.match",
    "landing.figures", "landing.commit", "landing.discard", "pump.run", "recorder.reconciled",
    "recorder.end_task", "recorder.flush", "store.finish",
)  # fmt: skip
EVERY_PHASE = [(phase, after) for phase in PHASES for after in (False, True)]
COMMIT_TIME = 0.04  # seconds within which a small commit is over
WHOLE_TIME = 0.6  # seconds within which a small attempt is over


def any_of(dice: random.Random, place: Place, only: str = "") -> Fault:
    """Choose a fault that is possible at this destination, or the one of this name."""
    makers = [
        (5, kill_at_random), (6, kill_at_a_phase), (2, kill_between_batches), (4, kill_inside_the_commit), (2, zombie),
        (2, three_at_once), (2, cancel), (1, source_backend),
    ]  # fmt: skip
    if place.wired:
        makers += [(3, network_cut)]
    if place.served:
        makers += [(2, destination_backend), (1, server_crash)]
    makers = [(weight, maker) for weight, maker in makers if only in ("", maker.__name__)]
    weights, choices = zip(*makers, strict=True)
    maker = dice.choices(choices, weights)[0]
    return Fault(maker.__name__.replace("_", " "), maker)


def _point(trials: Trials, method: str, **how: object) -> Point:
    return Point(method.replace("landing.", f"{trials.place.name}."), **how)  # type: ignore[arg-type] # as given


def kill_at_random(_: Fault, trials: Trials, uid: str) -> tuple[Running, ...]:
    running = trials.launch(uid)
    time.sleep(trials.dice.uniform(0.0, WHOLE_TIME))
    trials.zygote.signal(running.number, signal.SIGKILL)
    return (running,)


def kill_at_a_phase(_: Fault, trials: Trials, uid: str) -> tuple[Running, ...]:
    """Take the next phase that this mode comes to: each has its turn before any has a second one."""
    if not any(_comes_to(trials, phase) for phase, _ in trials.phases):
        trials.phases += trials.dice.sample(EVERY_PHASE, len(EVERY_PHASE))
    phase, after = found = next(one for one in trials.phases if _comes_to(trials, one[0]))
    running = trials.launch(uid, _point(trials, phase, after=after))
    if trials.zygote.wait(running.number, PATIENCE) == -signal.SIGKILL:
        trials.phases.remove(found)
        trials.report.phases.add(found)
    else:
        # It went by another way: the next ones first.
        trials.phases.append(trials.phases.pop(trials.phases.index(found)))
    return (running,)


def _comes_to(trials: Trials, phase: str) -> bool:
    assert trials.mode is not None
    stream = trials.mode.stream
    wants = {
        "landing.resume": "cursor" in stream and trials.place.name == "postgres",
        "landing.stage_keys": "cursor" in stream and "delete" in stream,
        "landing.duplicates": "key" in stream,
    }
    return bool(wants.get(phase, True))


def kill_between_batches(_: Fault, trials: Trials, uid: str) -> tuple[Running, ...]:
    """Leave some rows staged, with a checkpoint where the source gives one."""
    point = _point(trials, "landing.stage", nth=trials.dice.randint(1, 2), after=True)
    return (trials.launch(uid, point),)


def kill_inside_the_commit(_: Fault, trials: Trials, uid: str) -> tuple[Running, ...]:
    delay = trials.dice.uniform(0.0005, COMMIT_TIME)
    return (trials.launch(uid, _point(trials, "landing.commit", delay=delay)),)


def zombie(_: Fault, trials: Trials, uid: str) -> tuple[Running, ...]:
    """An attempt stops, a rival finishes the job, and the first wakes up again."""
    phase = trials.dice.choice(["landing.stage", "landing.match", "landing.commit", "pump.run"])
    inside = phase == "landing.commit" and trials.dice.random() < 0.5
    delay = trials.dice.uniform(0.0005, COMMIT_TIME) if inside else 0.0
    sleeper = trials.launch(uid, _point(trials, phase, action="stop", delay=delay))
    if not trials.zygote.stopped(sleeper.number, 20):
        return (sleeper,)
    rival = trials.launch(uid)
    # A rival waits while the sleeper is inside its commit: then the sleeper is woken up first.
    trials.zygote.wait(rival.number, 3)
    trials.zygote.signal(sleeper.number, signal.SIGCONT)
    return (sleeper, rival)


def three_at_once(_: Fault, trials: Trials, uid: str) -> tuple[Running, ...]:
    return tuple(trials.launch(uid) for _ in range(3))


def cancel(fault: Fault, trials: Trials, uid: str) -> tuple[Running, ...]:
    running = trials.launch(uid)
    time.sleep(trials.dice.uniform(0.0, WHOLE_TIME))
    store = trials.sources.store
    fault.accepted = store.request_cancel(running.number, by="chaos")
    return (running,)


def network_cut(_: Fault, trials: Trials, uid: str) -> tuple[Running, ...]:
    """The connection breaks when a COMMIT passes: before it arrives, or before its answer does."""
    trials.place.cut_at_commit(
        nth=trials.dice.randint(1, 3), answered=trials.dice.random() < 0.5, only_last=trials.dice.random() < 0.7
    )  # fmt: skip
    running = trials.launch(uid)
    trials.zygote.wait(running.number, 60)
    trials.place.mend()
    return (running,)


def source_backend(_: Fault, trials: Trials, uid: str) -> tuple[Running, ...]:
    running = trials.launch(uid)
    time.sleep(trials.dice.uniform(0.02, WHOLE_TIME / 2))
    trials.sources.terminate()
    return (running,)


def destination_backend(_: Fault, trials: Trials, uid: str) -> tuple[Running, ...]:
    running = trials.launch(uid)
    time.sleep(trials.dice.uniform(0.02, WHOLE_TIME))
    trials.place.terminate()
    return (running,)


def server_crash(_: Fault, trials: Trials, uid: str) -> tuple[Running, ...]:
    running = trials.launch(uid)
    time.sleep(trials.dice.uniform(0.02, WHOLE_TIME))
    trials.place.crash()
    return (running,)
