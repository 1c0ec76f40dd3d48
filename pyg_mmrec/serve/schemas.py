"""What goes in and out of the service; OpenAPI is made from these classes."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

#: An id as the catalogue has it; nodes' numbers where the catalogue has no ids of its own.
Id = StrictInt | Annotated[StrictStr, Field(min_length=1, max_length=256)]


class Wanted(BaseModel):
    """Users to recommend items to."""

    model_config = ConfigDict(extra="forbid")

    users: list[Id] = Field(min_length=1, description="Ids of users.")
    k: StrictInt = Field(10, ge=1, description="Items for each user.")
    exclude_seen: StrictBool = Field(True, description="Leave out what a user has had.")


class Item(BaseModel):
    """An item of a history."""

    item: int | str
    text: str = ""
    has_image: bool = False


class Scored(Item):
    """A recommended item."""

    score: float


class Recommendations(BaseModel):
    """A user's items, best first; fewer than k where no more are left."""

    user: int | str
    items: list[Scored]


class History(BaseModel):
    """What a user has interacted with, the latest first where times are known."""

    user: int | str
    total: int
    items: list[Item]


class Users(BaseModel):
    """A section of all users' ids."""

    total: int
    users: list[int | str]


class Part(BaseModel):
    """A named part of an explanation."""

    name: str
    value: float


class Share(Item):
    """An item of the history and its share of what the history says."""

    share: float


class Explained(BaseModel):
    """Why an item is recommended."""

    kind: str
    parts: list[Part]
    items: list[Share]


class Facts(BaseModel):
    """The model and its data."""

    version: str
    model: str
    num_users: int
    num_items: int
    max_k: int
    own_ids: bool
    data: dict[str, Any]
    metrics: dict[str, float]
    protocol: str
    licence: str


class Status(BaseModel):
    """Whether the service lives, or is ready."""

    status: str
