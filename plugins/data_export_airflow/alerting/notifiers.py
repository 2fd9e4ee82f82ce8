"""The Airflow notifiers that `alerts.notifiers` of platform.yaml names."""

import logging
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from airflow.sdk import BaseNotifier

from data_export.alerts.alert import Alert
from data_export.config.sections import NotifierSettings
from data_export.errors import ConfigError

log = logging.getLogger(__name__)


def make(setting: NotifierSettings) -> BaseNotifier:
    """The notifier, with its arguments not yet rendered.

    Raises:
        ConfigError: there is no such class, it is no notifier, or it does not take the arguments.
    """
    module, _, name = setting.class_path.rpartition(".")
    where = f"alerts.notifiers of platform.yaml: {setting.class_path}"
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{where} cannot be imported ({error}): install its provider on all workers") from None
    except Exception as error:  # whatever somebody else's module does when it is imported
        raise ConfigError(f"{where} cannot be imported ({type(error).__name__}): fix it on all workers") from None
    if not (isinstance(found, type) and issubclass(found, BaseNotifier)):
        raise ConfigError(f"{where} is not a subclass of airflow.sdk.BaseNotifier: name one that is")
    try:
        return found(**setting.kwargs)
    except TypeError as error:
        raise ConfigError(f"{where} does not take these kwargs: {error}") from None
    except Exception as error:  # its words may hold what it was given, such as an address with a token
        raise ConfigError(f"{where} does not take its kwargs ({type(error).__name__}): correct their values") from None


def notify(setting: NotifierSettings, alert: Alert, context: Mapping[str, Any]) -> bool:
    """Whether the notifier took the alert; what it or its templates raise is logged, by class only: the words may hold
    an address with a token in it."""
    try:
        make(setting)({**context, "alert": alert.to_dict()})
    except ConfigError as error:
        log.error("%s", error)
    except Exception as error:  # whatever somebody else's code raises must not cost the others their alert
        log.error("%s did not take the alert: %s", setting.class_path, type(error).__name__)
    else:
        return True
    return False
