"""The hand-over sheet of an export, as the page opens it: what the command `sheet` writes."""

from datetime import UTC, datetime
from typing import Literal

from fastapi import APIRouter, HTTPException, Response

from data_export.config.models import name_of
from data_export.errors import ConfigError
from data_export.handover.render import html, markdown, style_source
from data_export_airflow.commands.handover import sheet_of
from data_export_airflow.metadata.access import of_an_export

router = APIRouter(prefix="/api")


@router.get("/exports/{dag_id}/sheet", dependencies=of_an_export)
def hand_over(dag_id: str, format: Literal["html", "markdown"] = "html") -> Response:
    """One page without scripts, whose own style is the only one; or the same in Markdown, to be saved."""
    name = name_of(dag_id)
    if name is None:
        raise HTTPException(404, f"{dag_id} is no data export")
    try:
        sheet = sheet_of(name, datetime.now(UTC))
    except ConfigError:  # whose words are for those who may see import errors
        fix = f"`python -m data_export_airflow sheet {name}` says what to change"
        raise HTTPException(409, f"The customer file of {name} or the platform's settings have errors: {fix}") from None
    if format == "markdown":
        saved = {"Content-Disposition": f'attachment; filename="{name}.md"'}
        return Response(markdown(sheet), media_type="text/markdown", headers=saved)
    policy = (
        f"default-src 'none'; style-src {style_source()}; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )
    return Response(html(sheet), media_type="text/html", headers={"Content-Security-Policy": policy})
