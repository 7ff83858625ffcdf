"""Where the steps of a run are executed: in one process, in several, or wherever Dagster can run them."""

from importlib import import_module

import dagster as dg

from oam_mosaic_assets.errors import SettingsError


def executor_of(name: str, processes: int) -> dg.ExecutorDefinition:
    """The executor that a setting names.

    Args:
        name: `in_process`, `multiprocess`, or module and name of another, as `dagster_k8s:k8s_job_executor`.
        processes: how many steps `multiprocess` executes at once.

    Raises:
        SettingsError: there is no executor of that name.
    """
    if name == "in_process":  # for runs from the UI too: more processes take longer to start than they save
        return dg.in_process_executor
    if name == "multiprocess":
        return dg.multiprocess_executor.configured(
            {
                "max_concurrent": processes,
                "start_method": {"forkserver": {"preload_modules": ["oam_mosaic_assets.definitions"]}},
            }
        )
    module, _, attribute = name.partition(":")
    try:
        executor = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise SettingsError(
            f"BUILD_EXECUTOR, {name}, cannot be imported: {error}.",
            hint="Install its package in this environment, or set `in_process` or `multiprocess`.",
        ) from None
    if not isinstance(executor, dg.ExecutorDefinition):
        raise SettingsError(
            f"BUILD_EXECUTOR, {name}, is not a Dagster executor but a {type(executor).__name__}.",
            hint="Name one, such as `dagster_k8s:k8s_job_executor`.",
        )
    return executor
