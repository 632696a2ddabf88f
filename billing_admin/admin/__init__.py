"""The desk's pages. Every module in this folder registers its own when Django discovers the admin."""

from importlib import import_module
from pkgutil import iter_modules

for module in iter_modules(__path__):
    import_module(f"{__name__}.{module.name}")
