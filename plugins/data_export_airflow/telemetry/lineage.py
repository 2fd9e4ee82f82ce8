"""OpenLineage of the operators, where its provider is installed and has somewhere to send to.

A dataset of a target is the folder of a site and export type, which lasts; a file for each window would make thousands
of datasets of one. The file itself, with its checksum, is a facet.
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from data_export.delivery.registry import SCHEMES
from data_export_airflow.connections.source import source_server

if TYPE_CHECKING:
    from data_export.plan import ExportPlan
    from data_export.receipt import SiteReceipt

log = logging.getLogger(__name__)
#: Named by OpenLineage's rule for facets that are not its own: the producer's name, then the facet's.
FACET = "dataExport_delivery"
_POSTGRES_PORT = 5432


def of_delivery(plan: "ExportPlan", site: "SiteReceipt", source_conn_id: str) -> Any:
    """The source's tables as inputs, the site's folder at the target as output; None without OpenLineage.

    A link by mail has no output: the address of its file is its only protection. As all here, it never raises.
    """

    def lineage() -> Any:
        from openlineage.client.facet_v2 import output_statistics_output_dataset as statistics

        outputs = []
        if site.outcome != "staged":
            there = statistics.OutputStatisticsOutputDatasetFacet(
                rowCount=site.work_orders, size=site.bytes, fileCount=1
            )
            delivered = _delivery_facet()(
                uri=_without_user(site.uri),
                outcome=site.outcome,
                revision=site.revision,
                sha256=site.sha256,
                windowStart=plan.window.start.isoformat(),
                windowEnd=plan.window.end.isoformat(),
            )
            outputs.append(_folder(site.uri, {"outputStatistics": there, FACET: delivered}))
        return lineage_of(_source_tables(plan.export.export_type, source_conn_id), outputs)

    return _if_on(lineage)


def of_file(source: str, target: str, size: int) -> Any:
    """One file as input and as output; None without OpenLineage."""

    def lineage() -> Any:
        from openlineage.client.event_v2 import InputDataset, OutputDataset
        from openlineage.client.facet_v2 import output_statistics_output_dataset as statistics

        there = statistics.OutputStatisticsOutputDatasetFacet(size=size, fileCount=1)
        output = OutputDataset(*_named(target), outputFacets={"outputStatistics": there})
        return lineage_of([InputDataset(*_named(source))], [output])

    return _if_on(lineage)


def _if_on(lineage: Callable[[], Any]) -> Any:
    try:
        from airflow.providers.openlineage import conf

        return None if conf.is_disabled() else lineage()
    except ImportError:
        return None
    except Exception:  # what was delivered stays delivered, whatever becomes of its lineage
        log.warning("no lineage is reported of this task", exc_info=True)
        return None


def lineage_of(inputs: list[Any], outputs: list[Any]) -> Any:
    """What the provider wants from an operator; empty where a step moves nothing over the platform's borders."""
    from airflow.providers.openlineage.extractors import OperatorLineage

    return OperatorLineage(inputs=inputs, outputs=outputs)


def _source_tables(export_type: str, conn_id: str) -> list[Any]:
    from openlineage.client.event_v2 import InputDataset

    from data_export.source.queries import source_tables

    host, port, database = source_server(conn_id)
    namespace = f"postgres://{host or 'localhost'}:{port or _POSTGRES_PORT}"
    tables = [name if "." in name else f"public.{name}" for name in source_tables(export_type)]
    return [InputDataset(namespace=namespace, name=f"{database}.{table}") for table in tables]


def _folder(uri: str, facets: dict[str, Any]) -> Any:
    from openlineage.client.event_v2 import OutputDataset

    namespace, name = _named(uri)
    return OutputDataset(namespace=namespace, name=name.rpartition("/")[0], outputFacets=facets)


def _named(uri: str) -> tuple[str, str]:
    """OpenLineage's namespace and name: `gs://bucket` and the object's, `sftp://host:22` and the path, `file`."""
    parts = urlsplit(_without_user(uri))
    if parts.scheme == "file":
        return "file", unquote(parts.path)
    path = uri.partition("://")[2].partition("/")[2]  # an object's name may hold ? and #
    return f"{parts.scheme}://{parts.netloc}", path or "/"


def _without_user(uri: str) -> str:
    """The address of a server without its login; in that of a bucket an `@` belongs to the name."""
    scheme, _, rest = uri.partition("://")
    if scheme in SCHEMES:
        return uri
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def _delivery_facet() -> type[Any]:
    """Made when it is needed: its base is the library's."""
    import attr
    from openlineage.client.facet_v2 import OutputDatasetFacet

    fields = ("uri", "outcome", "revision", "sha256", "windowStart", "windowEnd")
    made: type[Any] = attr.make_class("DeliveryFacet", fields, bases=(OutputDatasetFacet,), kw_only=True)
    return made
