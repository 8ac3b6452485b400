"""Writes `croissant.json`: the dataset in MLCommons' Croissant 1.0, with the index as its records."""

from __future__ import annotations

from typing import Any

from helix4d.curation.publish.card import CREDITS_FILE
from helix4d.curation.publish.facts import Facts
from helix4d.curation.shards.layout import INDEX_FOLDER

_TEXT, _WHOLE, _FLAG = "sc:Text", "sc:Integer", "sc:Boolean"
_COLUMNS = {
    "key": (_TEXT, "key of the sample: the prefix of its members in the shard"),
    "asset": (_TEXT, "name of the asset in the source"),
    "shard": (_TEXT, "tar with the sample"),
    "offset": (_WHOLE, "first byte of the sample in the tar"),
    "bytes": (_WHOLE, "size of the sample in the tar"),
    "license": (_TEXT, "cc0, by, by-nc, ...; empty if unknown"),
    "attribution": (_FLAG, "whether the license requires attribution"),
    "title": (_TEXT, "title of the work"),
    "author": (_TEXT, "author of the work"),
    "source": (_TEXT, "address of the work"),
    "frames": (_WHOLE, "number of frames"),
    "views": (_WHOLE, "number of views"),
    "max_tokens": (_WHOLE, "latent tokens of the largest frame"),
}
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def croissant(facts: Facts) -> dict[str, Any]:
    """Return the metadata as JSON-LD. Paths are relative to the file itself."""
    count = sum(facts.samples.values())
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": "helix4d",
        "description": f"{count:,} animated 3D objects as O-Voxels and images, in WebDataset shards.",
        "license": CREDITS_FILE,
        "citeAs": "Helix4D: Complex 4D Mesh Generation, arXiv:2605.26109",
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": "repository",
                "name": "repository",
                "description": "the folder of this file",
                "contentUrl": ".",
                "encodingFormat": "git+https",
                "sha256": "https://github.com/mlcommons/croissant/issues/80",
            },
            _files("shards", "application/x-tar", "*/*.tar"),
            _files("index", "application/x-parquet", f"{INDEX_FOLDER}/*.parquet"),
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "samples",
                "name": "samples",
                "description": "a record per sample",
                "key": {"@id": "samples/key"},
                "field": [
                    {
                        "@type": "cr:Field",
                        "@id": f"samples/{name}",
                        "name": name,
                        "description": what,
                        "dataType": kind,
                        "source": {"fileSet": {"@id": "index"}, "extract": {"column": name}},
                    }
                    for name, (kind, what) in _COLUMNS.items()
                ],
            }
        ],
    }


def _files(name: str, encoding: str, pattern: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": name,
        "name": name,
        "containedIn": {"@id": "repository"},
        "encodingFormat": encoding,
        "includes": pattern,
    }
