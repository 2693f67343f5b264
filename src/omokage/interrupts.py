"""Ctrl-C and termination signals: the program ends with one line and exit code 130, if need be after saving.

Python runs signal handlers in the main thread, between two Python instructions. If a library computes for
minutes, the handler has to wait. So a second thread receives signals too. It replies at once, and after a
second signal it ends the program if the main thread does not.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from .files import discard_unfinished

CODE = 130
PATIENCE = 2.0  # seconds from the second signal until the thread ends the program
FINISHING = "finishing this step, then saving; again to stop now"

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))


class _Watch:
    """A thread that receives signals while the main thread is busy.

    Attributes:
        program: whether this process is the command line; only then may the thread end it.
        request: called at the first signal; None: nothing is called.
        told: the line printed when the program is ended.
    """

    def __init__(self) -> None:
        self.program = False
        self.request: Callable[[], None] | None = None
        self.told = "interrupted"
        self._users = 0
        self._heard = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Receive signals until the block ends."""
        if self._users:  # already
            yield
            return
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        self._users += 1
        self._heard = 0
        others = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        thread = threading.Thread(target=self._listen, args=(reading, others), name="signals", daemon=True)
        thread.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(others)
            self._users -= 1
            os.close(writing)
            thread.join()
            os.close(reading)

    @contextmanager
    def requested(self, stop: "Stop") -> Iterator[None]:
        """In this block, the first signal asks ``stop`` to end, and only the second one interrupts."""
        told = self.told
        self._heard, self.request, self.told = 0, stop.tell, f"interrupted: {stop.cut}"
        try:
            yield
        finally:
            self.request, self.told = None, told

    def _listen(self, reading: int, others: int) -> None:
        while numbers := os.read(reading, 64):
            for number in numbers:
                if number in SIGNALS:
                    self._hear()
                elif others != -1:
                    with suppress(OSError):
                        os.write(others, bytes([number]))  # pass it on, for example to an event loop

    def _hear(self) -> None:
        self._heard += 1
        if self._heard == 1 and self.request is not None:
            self.request()
        if self._heard == 2 and self.program:
            timer = threading.Timer(PATIENCE, self.end)
            timer.daemon = True
            timer.start()

    def end(self) -> None:
        """End the program now: delete unfinished files and print one line."""
        discard_unfinished()
        if sys.stderr is not None and os.isatty(2):
            os.write(2, b"\x1b[?25h\r\x1b[K")  # show the cursor, which a progress bar hides
        os.write(2, f"{self.told}\n".encode())
        os._exit(CODE)


_watch = _Watch()
_listening: Any = None


def begin() -> None:
    """Install the signal handlers of the command line. Call once, before all else, in the main thread.

    A signal raises KeyboardInterrupt, which `__main__.main` turns into one line. During an import, the
    program ends at once instead, because an import may turn the exception into another one.
    """
    global _listening
    _watch.program = True
    _listening = _watch.listening()
    _listening.__enter__()
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # ignored for background jobs of a script
            signal.signal(number, _raise)


def end() -> None:
    """Ignore signals while the process ends; after a second one, the thread still ends a hanging process."""
    if _watch.program:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda number, frame: None)


def _raise(number: int, frame: FrameType | None) -> None:
    if _importing(frame) and not _children():
        _watch.end()
    raise KeyboardInterrupt


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _children() -> bool:
    processes = sys.modules.get("multiprocessing")
    return processes is not None and bool(processes.active_children())


class Stop:
    """A flag that becomes true when the training should end.

    Args:
        say: called with a text that says what the first signal does.
        cut: message of the KeyboardInterrupt that a second signal raises.
    """

    def __init__(self, say: Callable[[str], None], cut: str) -> None:
        self._say, self.cut = say, cut
        self.asked = False
        self._at_once = self._deaf = False

    def __bool__(self) -> bool:
        # Signals do not reach other threads. A training in one ends when the main thread has ended.
        return self.asked or (self._deaf and not threading.main_thread().is_alive())

    def ask(self, number: int, frame: FrameType | None) -> None:
        """The signal handler: the first signal sets the flag, the second one raises KeyboardInterrupt."""
        second, self.asked = self.asked, True
        if second or self._at_once:
            raise KeyboardInterrupt(self.cut)

    def tell(self) -> None:
        """Say what the first signal does."""
        if not self._at_once:
            self._say(FINISHING)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """For work that may stop anywhere: the first signal ends the block, without an exception after it."""
        self._at_once = True
        try:
            yield
        except KeyboardInterrupt:
            if not self.asked:
                raise
        finally:
            self._at_once = False


@contextmanager
def stop_requests(say: Callable[[str], None], cut: str) -> Iterator[Stop]:
    """Turn the first Ctrl-C, SIGTERM or hang-up into a request to stop, so that a training step is finished.

    ``say`` is called at once with a text that says what the first signal does. A second signal raises
    KeyboardInterrupt with the message ``cut``. If the command line stays busy in a library for some seconds,
    its process is ended.

    >>> with stop_requests(lambda told: None, "cut") as stop:
    ...     signal.raise_signal(signal.SIGTERM)
    ...     bool(stop)
    True
    """
    stop = Stop(say, cut)
    if threading.current_thread() is not threading.main_thread():
        stop._deaf = True
        yield stop
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    if before.get(getattr(signal, "SIGHUP", None)) is signal.SIG_IGN:  # type: ignore[call-overload]
        del before[signal.SIGHUP]  # nohup
    with _watch.listening(), _watch.requested(stop):
        for number in before:
            signal.signal(number, stop.ask)
        try:
            yield stop
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
