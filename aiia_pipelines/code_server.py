"""The code server of `aiia up`: `python -m aiia_pipelines.code_server --port 3001`. It reloads in place.

Dagster's own reloads by a second process behind the first: 75 MiB and a percent of a core while nothing is done.
"""

import argparse
import logging
import os
import sys
import threading
from uuid import uuid4

from dagster._core.errors import DagsterUserCodeLoadError
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.utils import FuturesAwareThreadPoolExecutor
from dagster._grpc.__generated__ import dagster_api_pb2
from dagster._grpc.server import DagsterApiServer, DagsterGrpcServer, LoadedRepositories
from dagster._utils.error import serializable_error_info_from_exc_info
from dagster._utils.interrupts import setup_interrupt_handlers
from dagster._utils.log import configure_loggers

from aiia_pipelines.local.web import LOCATION


class CodeServer(DagsterApiServer):
    """Dagster's server of definitions, whose reload reads the connector files again."""

    def ReloadCode(self, _request: object, _context: object) -> dagster_api_pb2.ReloadCodeReply:  # noqa: N802 - gRPC's name
        """Build the definitions again; those that are served stay until then."""
        with self._reload_lock:
            try:
                self._loaded_repositories = LoadedRepositories(
                    self._loadable_target_origin,
                    entry_point=self._entry_point,
                    container_image=self._container_image,
                    container_context=self._container_context,
                    code_location_name=LOCATION,
                )
                self._serializable_load_error = None
            except DagsterUserCodeLoadError:
                self._serializable_load_error = serializable_error_info_from_exc_info(
                    sys.exc_info()
                )
                self._loaded_repositories = None
            # By its number the web server and the daemon see that they have to ask again.
            self._server_id = str(uuid4())
        return dagster_api_pb2.ReloadCodeReply()


def main() -> int:
    """Serve the definitions until a signal comes."""
    parser = argparse.ArgumentParser(prog="python -m aiia_pipelines.code_server")
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    setup_interrupt_handlers()
    configure_loggers()
    logger = logging.getLogger("dagster.code_server")
    over, threads = threading.Event(), FuturesAwareThreadPoolExecutor()
    definitions = CodeServer(
        server_termination_event=over,
        logger=logger,
        server_threadpool_executor=threads,
        loadable_target_origin=LoadableTargetOrigin(
            executable_path=sys.executable,
            module_name="aiia_pipelines.definitions",
            working_directory=os.getcwd(),  # noqa: PTH109 - a text
        ),
        lazy_load_user_code=True,
        location_name=LOCATION,
    )
    server = DagsterGrpcServer(
        server_termination_event=over,
        dagster_api_servicer=definitions,
        logger=logger,
        threadpool_executor=threads,
        host="127.0.0.1",
        port=given.port,
    )
    try:
        server.serve()  # type: ignore[no-untyped-call] # Dagster's
    except KeyboardInterrupt:
        logger.info("The code server was interrupted.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
