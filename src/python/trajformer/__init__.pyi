from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Dataset", "Policy", "__version__", "fit", "load"]

__version__: str

_Path = str | PathLike[str]
_Data = Dataset | _Path | Sequence[_Path]

def load(
    run: _Path,
    *,
    overrides: Sequence[str] | None = None,
    data: _Data | None = None,
    env: str | None = None,
) -> Policy: ...
def fit(
    dataset: _Data | None,
    config: Mapping[str, Any] | _Path,
    out: _Path | None = None,
    *,
    resume: bool = False,
    overrides: Sequence[str] | None = None,
) -> Policy: ...

class Policy:
    def act(self, observations: ArrayLike) -> NDArray[np.float32]: ...
    def observe(self, rewards: ArrayLike, actions: ArrayLike | None = None) -> None: ...
    def reset(
        self,
        rows: int | Sequence[int] | Sequence[bool] | NDArray[np.bool_] | NDArray[np.integer[Any]] | None = None,
        *,
        target_return: ArrayLike | None = None,
        goal: ArrayLike | None = None,
        instruction: str | Sequence[str] | None = None,
        seed: int | None = None,
    ) -> None: ...
    def evaluate(
        self, env: str | None = None, *, episodes: int | None = None, seed: int | None = None
    ) -> dict[str, Any]: ...
    def save(self, path: _Path) -> None: ...
    @property
    def observation_dim(self) -> int: ...
    @property
    def action_dim(self) -> int: ...
    @property
    def action_low(self) -> NDArray[np.float32]: ...
    @property
    def action_high(self) -> NDArray[np.float32]: ...
    @property
    def action_choices(self) -> int | None: ...
    @property
    def algorithm(self) -> str: ...
    @property
    def config(self) -> str: ...
    @property
    def updates(self) -> int: ...
    @property
    def needs_goal(self) -> bool: ...
    @property
    def needs_instruction(self) -> bool: ...
    @property
    def is_memoryless(self) -> bool: ...
    @property
    def target_returns(self) -> list[float]: ...

class Dataset:
    @staticmethod
    def from_arrays(
        observations: ArrayLike,
        actions: ArrayLike,
        rewards: ArrayLike,
        terminals: ArrayLike | None = None,
        timeouts: ArrayLike | None = None,
        *,
        next_observations: ArrayLike | None = None,
        episode_lengths: ArrayLike | None = None,
        action_low: ArrayLike | None = None,
        action_high: ArrayLike | None = None,
        action_choices: int | None = None,
        instructions: Sequence[str] | None = None,
        env_name: str | None = None,
        max_episode_steps: int | None = None,
    ) -> Dataset: ...
    @staticmethod
    def load(
        path: _Path | Sequence[_Path],
        *,
        max_episode_steps: int | None = None,
        observation_keys: Sequence[str] | None = None,
    ) -> Dataset: ...
    def save(self, path: _Path) -> None: ...
    @property
    def observations(self) -> NDArray[np.float32]: ...
    @property
    def actions(self) -> NDArray[np.float32]: ...
    @property
    def rewards(self) -> NDArray[np.float32]: ...
    @property
    def terminals(self) -> NDArray[np.bool_]: ...
    @property
    def timeouts(self) -> NDArray[np.bool_]: ...
    @property
    def episode_lengths(self) -> NDArray[np.int64]: ...
    @property
    def returns(self) -> NDArray[np.float64]: ...
    @property
    def observation_dim(self) -> int: ...
    @property
    def action_dim(self) -> int: ...
    @property
    def env_name(self) -> str | None: ...
    @property
    def warnings(self) -> list[str]: ...
    def __len__(self) -> int: ...
