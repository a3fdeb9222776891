"""`python -m aiia_pipelines` is the `aiia` command."""

from aiia_pipelines.cli.main import main

if __name__ == "__main__":
    main()
