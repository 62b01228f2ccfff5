"""Who may publish and subscribe what: the one table from which brokers are configured.

A filter is an MQTT topic filter with ``+`` for a level. Nobody is allowed anything that is not
listed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from propeller_fl.errors import ConfigError, MessageError
from propeller_fl.wire import Topics, check_id

_PROBE: Final = "fl/doctor/+"  # where `propeller-fl doctor` talks to itself
_VERSION: Final = "$SYS/broker/version"  # the broker's own, under no prefix


class AccessRole(StrEnum):
    """What an identity is to the deployment."""

    BROKER = "broker"  # the embedded broker's own sessions: is it ready, and how long its queue is
    MANAGER = "manager"
    COORDINATOR = "coordinator"
    MODEL_SERVER = "model-server"
    OPERATOR = "operator"  # starts and stops rounds and watches them
    PUBLISHER = "publisher"  # puts models by hand (`propeller-fl model put`)
    EXPERIMENTS = "experiments"  # starts rounds, as operators have asked it to
    GATEWAY = "gateway"  # the HTTP face: whoever shows its token may do what this may
    DASHBOARD = "dashboard"  # the page: reads what it shows, starts and stops things for who may
    AGGREGATOR = "aggregator"  # has the devices here do the tasks of a deployment upstream
    OBSERVER = "observer"  # reads rounds and models, and writes nothing
    PROPLET = "proplet"


SERVICE_ROLES: Final = tuple(role for role in AccessRole if role is not AccessRole.PROPLET)


@dataclass(frozen=True, slots=True)
class Grants:
    """Topic filters, with the prefix on them.

    ``deny_publish``  is refused though ``publish`` matches it. mosquitto's access rules cannot say
                      that of what may be read, and it is allowed there.
    """

    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    deny_publish: tuple[str, ...] = ()


def check_identity(name: str, role: AccessRole) -> str:
    """Return ``name`` if an identity of ``role`` may have it. Raises :class:`ConfigError`."""
    try:
        check_id(name, "name")
    except MessageError as err:
        raise ConfigError(err.args[0], hint=err.hint) from None
    if role is AccessRole.PROPLET and name in SERVICE_ROLES:
        raise ConfigError(
            f"no proplet can be named {name!r}", hint="that is a service's name: choose another"
        )
    return name


def grants_of(
    role: AccessRole, topics: Topics, name: str = "", *, shared_topics: bool = False
) -> Grants:
    """What ``role`` may do; ``name`` is the proplet's id.

    ``shared_topics`` adds the control topics that all of Propeller's proplets share. Whoever may
    write there can speak as any proplet, and whoever reads there reads everybody's tasks.
    """
    match role:
        case AccessRole.BROKER:
            return Grants(("#",), ("#",))
        case AccessRole.MANAGER:
            return _manager(topics, shared_topics)
        case AccessRole.COORDINATOR:
            return Grants(
                publish=(
                    topics.model_publish,
                    topics.any_complete,
                    topics.any_status,
                    topics.any_ack,
                    topics.any_part,
                ),
                subscribe=(
                    topics.round_start,
                    topics.any_round_stop,
                    topics.any_launch,
                    topics.forwarded_updates,
                    topics.any_model,
                    topics.any_part,
                ),
            )
        case AccessRole.MODEL_SERVER:
            return Grants(
                publish=(topics.any_model, topics.any_part),
                deny_publish=(topics.model_publish,),  # it would be talking to itself
                subscribe=(topics.any_model, topics.any_part),
            )
        case AccessRole.OPERATOR:
            probe = topics.absolute(_PROBE)
            return Grants(
                publish=(
                    topics.round_start,
                    topics.any_round_stop,
                    topics.experiment_start,
                    topics.any_experiment_command,
                    topics.parts_wanted,
                    probe,
                ),
                subscribe=(*_reads(topics), topics.any_part, probe, _VERSION),
            )
        case AccessRole.PUBLISHER:
            return Grants(
                publish=(topics.model_publish, topics.any_part),
                subscribe=(topics.any_model, topics.any_part),
            )
        case AccessRole.EXPERIMENTS:
            return _experiments(topics)
        case AccessRole.GATEWAY:
            return _gateway(topics, shared_topics)
        case AccessRole.DASHBOARD:
            return Grants(
                publish=(
                    topics.round_start,
                    topics.any_round_stop,
                    topics.experiment_start,
                    topics.any_experiment_command,
                ),
                subscribe=(
                    *_reads(topics),
                    topics.round_start,
                    topics.any_ack,
                    *_spoken(topics),
                ),
            )
        case AccessRole.AGGREGATOR:
            return _aggregator(topics)
        case AccessRole.OBSERVER:
            return Grants(subscribe=_reads(topics))
        case AccessRole.PROPLET:
            return _proplet(topics, check_identity(name, role), shared_topics)


def _reads(topics: Topics) -> tuple[str, ...]:
    return (
        topics.any_status,
        topics.any_launch,
        topics.any_complete,
        topics.any_model,
        topics.any_experiment_status,
    )


def _manager(topics: Topics, shared: bool) -> Grants:
    return Grants(
        publish=(
            topics.forwarded_updates,
            topics.any_ack,
            topics.any_launch,
            topics.image("+"),
            topics.task_start_of("+"),
            topics.task_stop_of("+"),
            *((topics.task_start, topics.task_stop) if shared else ()),
            *((topics.registry_chunks,) if shared else ()),
        ),
        subscribe=(
            topics.round_start,
            topics.any_update,
            topics.any_status,
            topics.any_complete,
            *_spoken(topics),
            topics.registry_requests,  # where nobody may write either unless it is shared
        ),
    )


def _experiments(topics: Topics) -> Grants:
    return Grants(
        publish=(topics.round_start, topics.any_experiment_status),
        subscribe=(
            topics.experiment_start,
            topics.any_experiment_command,
            topics.any_status,
            topics.any_complete,
            topics.proplet_create_of("+"),
            topics.proplet_alive_of("+"),
            topics.proplet_create,
            topics.proplet_alive,
        ),
    )


def _aggregator(topics: Topics) -> Grants:
    return Grants(
        publish=(topics.round_start, topics.any_model, topics.task_stop_of("+")),
        deny_publish=(topics.model_publish,),
        subscribe=(
            *_reads(topics),
            topics.proplet_create_of("+"),
            topics.proplet_alive_of("+"),
            topics.proplet_create,
            topics.proplet_alive,
        ),
    )


def _gateway(topics: Topics, shared: bool) -> Grants:
    return Grants(
        publish=(
            topics.round_start,
            topics.any_update,
            topics.model_publish,
            topics.task_start_of("+"),
            topics.task_stop_of("+"),
            *((topics.task_start, topics.task_stop) if shared else ()),
        ),
        subscribe=(*_reads(topics), topics.round_start, topics.any_ack, *_spoken(topics)),
    )


def _spoken(topics: Topics) -> tuple[str, ...]:
    """Where proplets speak of themselves. Nobody may write on the latter three unless they are
    shared."""
    return (
        topics.proplet_create_of("+"),
        topics.proplet_alive_of("+"),
        topics.proplet_results_of("+"),
        topics.proplet_create,
        topics.proplet_alive,
        topics.proplet_results,
    )


def _proplet(topics: Topics, name: str, shared: bool) -> Grants:
    own_publish: tuple[str, ...] = (
        topics.update("+", name),
        topics.proplet_create_of(name),
        topics.proplet_alive_of(name),
        topics.proplet_results_of(name),
        topics.any_part,  # of its updates; one is known by its digest, whoever sent it
    )
    own_subscribe: tuple[str, ...] = (
        topics.task_start_of(name),
        topics.task_stop_of(name),
        topics.acks_of(name),
        topics.any_complete,
        topics.image("+"),
        topics.any_model,
        topics.any_part,
    )
    if shared:
        own_publish += (
            topics.proplet_create,
            topics.proplet_alive,
            topics.proplet_results,
            topics.registry_requests,
        )
        own_subscribe += (
            topics.task_start,
            topics.task_stop,
            topics.registry_chunks,
        )
    return Grants(own_publish, own_subscribe)
