"""Batches of real images. A batch depends only on the number of images seen before it."""

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from ..data.store.faceset import FaceSet
from ..progress import Progress
from ..schedule import Batch, batch_at

# Sets of up to this many bytes are decoded once and kept in memory; larger ones are decoded during training.
MEMORY = 4 * 2**30


def shared(count: int, share: float, seed: int) -> np.ndarray:
    """A random ``share`` of ``count`` faces, drawn with ``seed``: their indices in ascending order.

    There is at least one. A larger share contains all faces of a smaller one.

    >>> shared(10, 0.3, 0).size, set(shared(10, 0.3, 0)) < set(shared(10, 0.5, 0)), shared(3, 1.0, 0)
    (3, True, array([0, 1, 2]))
    """
    # Epochs are shuffled with (seed, epoch); no epoch reaches 2**62.
    shuffled = np.random.default_rng((seed, 2**62)).permutation(count)
    return np.sort(shuffled[: max(1, round(share * count))])


class Order:
    """Which faces a batch has. Each epoch has its own order.

    Args:
        used: the indices of the training faces.
        batch: images of a batch; if it is a list of points, the size also depends on the images seen.
        chances: how often each of the used faces comes in an epoch, on average. None: each comes once.
    """

    def __init__(
        self,
        used: np.ndarray,
        batch: Batch,
        seed: int,
        rank: int = 0,
        processes: int = 1,
        chances: np.ndarray | None = None,
    ) -> None:
        self._chances = None if chances is None else chances / chances.sum()
        self.used, self.batch, self.seed = used, batch, seed
        self.rank, self.processes = rank, processes
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))

    def at(self, images: int) -> Tensor:
        """This process's part of the batch after ``images`` images."""
        raise NotImplementedError

    def indices(self, images: int) -> np.ndarray:
        """The indices of the faces in this process's batch after ``images`` images."""
        share = batch_at(self.batch, images, self.processes) // self.processes
        first = images + self.rank * share
        return np.array([self._face(position) for position in range(first, first + share)])

    def _face(self, position: int) -> int:
        epoch, place = divmod(position, len(self.used))
        if self._order[0] != epoch:
            random = np.random.default_rng((self.seed, epoch))
            if self._chances is None:
                order = random.permutation(self.used)
            else:
                order = random.choice(self.used, len(self.used), p=self._chances)
            self._order = (epoch, order)
        return int(self._order[1][place])


class Batches(Order):
    """Batches of a face set.

    ``at(images)`` returns this process's part of the batch that comes after ``images`` images: a uint8 tensor
    (batch / processes, 3, H, W). ``used``, ``batch`` and ``chances`` as in `Order`; ``used`` None: all faces.
    """

    def __init__(
        self,
        faces: FaceSet,
        size: tuple[int, int],
        batch: Batch,
        seed: int,
        rank: int = 0,
        processes: int = 1,
        progress: Progress | None = None,
        memory: int = MEMORY,
        used: np.ndarray | None = None,
        chances: np.ndarray | None = None,
    ) -> None:
        used = np.arange(len(faces)) if used is None else used
        super().__init__(used, batch, seed, rank, processes, chances)
        self.faces, self.size = faces, size
        self._decoded: Tensor | None = None
        if len(faces) * size[0] * size[1] * 3 <= memory:
            pixels = torch.from_numpy(faces.everything(size, progress=progress))
            self._decoded = pixels.permute(0, 3, 1, 2)  # a channels-last tensor, like the networks
        else:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="faces")
            self._ahead: tuple[int, Future[Tensor]] | None = None

    def at(self, images: int) -> Tensor:
        """The batch after ``images`` images. If faces are not in memory, decoding of the next one begins."""
        if self._decoded is not None:
            return self._decoded[torch.from_numpy(self.indices(images))]
        ahead, self._ahead = self._ahead, None
        found = ahead[1].result() if ahead and ahead[0] == images else self._decode(self.indices(images))
        after = images + batch_at(self.batch, images, self.processes)
        self._ahead = (after, self._pool.submit(self._decode, self.indices(after)))
        return found

    def _decode(self, indices: np.ndarray) -> Tensor:
        return torch.from_numpy(self.faces.pixels(indices, self.size)).permute(0, 3, 1, 2)
