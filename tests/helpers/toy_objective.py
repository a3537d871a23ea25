"""A cheap objective for tests of searches: a quadratic reached in steps, with a checkpoint and a diary of every step that ran."""

import errno
import json
import os
import time

import optuna

from calandria.base.files import write_text


def suggest(trial, settings):
    kind = trial.suggest_categorical("kind", ["plain", "shifted"])
    parameters = {"kind": kind, "x": trial.suggest_float("x", -2.0, 2.0, step=settings.get("x_step"))}
    if kind == "shifted":
        parameters["shift"] = trial.suggest_int("shift", 1, 3)
    return parameters


def note(context, word, **more):
    if "diary" in context.settings:
        line = json.dumps({"trial": context.number, "word": word, "pid": os.getpid(), "time": time.time(), **more}) + "\n"
        with open(context.settings["diary"], "ab", buffering=0) as stream:
            stream.write(line.encode())


def run(parameters, context):
    settings = context.settings
    if context.number in settings.get("kill_in", []):
        os.kill(os.getpid(), 9)
    if context.number in settings.get("fail_in", []) or settings.get("fail_always"):
        raise RuntimeError(f"trial {context.number}\nbroke")
    if context.number in settings.get("nan_in", []):
        return float("nan")
    if "no_room_while" in settings and os.path.exists(settings["no_room_while"]):  # noqa: PTH110
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise RuntimeError("the checkpoint cannot be saved") from error
    first, start = 0, {"seed": context.seed, "parameters": parameters}
    if context.checkpoint_path.exists():
        saved = json.loads(context.checkpoint_path.read_text())
        assert saved["start"] == start, "a checkpoint of another trial"
        first = saved["step"] + 1
    note(context, "start", first=first)
    value = (parameters["x"] - parameters.get("shift", 0)) ** 2
    for step in range(first, settings.get("steps", 3)):
        time.sleep(settings.get("sleep_s", 0.0))
        if settings.get("deaf_s") and step == 0:
            time.sleep(settings["deaf_s"])
        note(context, "step", step=step)
        write_text(context.checkpoint_path, json.dumps({"step": step, "start": start}))
        context.report(step, value + 1.0 / (step + 1))
        if settings.get("prune_from") is not None and context.number >= settings["prune_from"] and step == 1:
            raise optuna.TrialPruned
    note(context, "end")
    return value
