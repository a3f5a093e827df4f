"""The index as a library user has it: add, search, localize, draft, calibrate, status, verify."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload

from corpus.errors import UsageError
from corpus.notices import Notices
from corpus.records import Source
from corpus.sources import open_source
from corpus.tables.options import TableOptions
from indexer.index import Index as OpenIndex
from indexer.ingest.pipeline import Added, add_source
from indexer.ingest.repair import Verified
from indexer.ingest.repair import verify as compare
from indexer.servers import Servers
from indexer.status import status_of
from indexer.versions import HeldStudies
from retrieval.answer import Answer, Case, Hit
from retrieval.localize.answer import Box
from retrieval.lookup import image_location
from retrieval.query.query import Query, Target
from retrieval.search import search
from similarity.images import ImageLike, names_image, to_picture
from similarity.progress import counting, progress

if TYPE_CHECKING:
    from retrieval.draft.text import Draft
    from retrieval.localize.answer import Localization
    from retrieval.reliability.fit import Calibrated
    from trainer.runtime.encoder import Encoder


class Index:
    """An open index: a folder, or servers. Leave it as a context manager, or `close` it.

    One process writes at a time. Opened with `read_only=True`, whatever would write raises `ReadOnlyIndex`.
    """

    def __init__(self, opened: OpenIndex, encoder: "Encoder | None" = None) -> None:
        """Wrap an index that is open; use `Index.open`."""
        self.opened = opened
        self._encoder = encoder

    @classmethod
    def open(
        cls,
        home: Path | str | None = None,
        *,
        encoder: "Encoder | Path | str | None" = None,
        read_only: bool = False,
        database_url: str | None = None,
        qdrant_url: str | None = None,
        qdrant_api_key: str | None = None,
        on_wait: Callable[[str], None] | None = None,
    ) -> "Index":
        """Open an index; where there is none yet, an empty one is made, unless it is opened read-only.

        Args:
            home: its folder; None: the setting `SIMILARITY_HOME`.
            encoder: what embeds what is added and asked, loaded or by folder or name; None: the one that the
                index was made with.
            read_only: refuse whatever would write.
            database_url: Postgres for the catalog; None: the setting `SIMILARITY_DATABASE_URL`, else SQLite
                in the home.
            qdrant_url: a Qdrant server for the vectors; None: the setting `SIMILARITY_QDRANT_URL`, else the
                engine in this process.
            qdrant_api_key: its key; None: the setting `SIMILARITY_QDRANT_API_KEY`.
            on_wait: told, in one line, when this process waits for another, or for a server.

        Raises:
            EmptyIndex: it is opened read-only, and there is none.
            HomeError: home, database or Qdrant cannot be used.
            IndexInUse: another process owns the index, and did not end in time.
            EncoderError: there is no such encoder.
        """
        folder = None if home is None else Path(home).expanduser()
        if isinstance(encoder, str | Path):
            from similarity.encoders import load_encoder  # late: imports torch

            encoder = load_encoder(encoder)
        opened = OpenIndex.open(
            folder,
            read_only=read_only,
            on_wait=on_wait,
            servers=Servers.named(database_url, qdrant_url, qdrant_api_key),
        )
        index = cls(opened, encoder)
        try:
            index._use_encoder()
        except BaseException:
            opened.close()
            raise
        return index

    def __enter__(self) -> "Index":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        studies = sum(self.opened.catalog.counts()["studies"].values())
        return f"<similarity.Index of {studies} studies in {self.opened.home.folder.name!r}>"

    def close(self) -> None:
        """Let go of vectors, database and home."""
        self.opened.close()

    @property
    def encoder(self) -> "Encoder":
        """The encoder that searches use.

        Raises:
            EmptyIndex: nothing was indexed yet.
        """
        return self._searched().encoder

    def add(
        self,
        source: str | Source | None = None,
        *,
        reports: Path | str | None = None,
        admit: Iterable[str] = (),
        encoding: str | None = None,
        dates: str | None = None,
        patches: bool = False,
        workers: int | None = None,
        show_progress: bool = True,
    ) -> Added:
        """Bring the index up to date with a source: embed new and changed items, delete what is gone.

        Args:
            source: `KIND:PATH` as on the command line, or anything with `name` and `studies`. None: embed
                what the index holds by the encoder that it was opened with.
            reports: for a DICOM source, a table of reports to join.
            admit: DICOM modalities and body parts to let in besides chest radiographs.
            encoding: of tables and report files; None: found by their bytes.
            dates: `day-first`, `month-first`, `excel` or a `strptime` format of a manifest's dates.
            patches: keep the vectors of patches, too, for searches by region.
            workers: decode processes; 0 decodes in this one, None: one a core.
            show_progress: on a terminal or in a notebook.

        Returns:
            What was done, also of what could not be read (`.problems`); `status(failed=True)` lists those.

        Raises:
            UsageError: the index is empty and no encoder was named, or the source is malformed.
            CorpusError: the source cannot be read as a whole.
            ReadOnlyIndex: it was opened read-only.
        """
        encoder = self._encoder or self._encoder_of_index()
        if encoder.folder is None:
            raise UsageError(
                "the encoder was not loaded from a folder, where a search would find it: save it"
            )
        tables = TableOptions(encoding, dates, Notices())
        if isinstance(source, str):
            table = None if reports is None else Path(reports)
            opened: Source = open_source(source, reports=table, admit=frozenset(admit), tables=tables)
            origin = source
        else:
            opened = HeldStudies(self.opened.catalog) if source is None else source
            origin = opened.name
        with progress() if show_progress else nullcontext() as observer:
            added = add_source(
                self.opened,
                opened,
                encoder,
                origin=origin,
                folder=str(encoder.folder),
                patches=patches,
                workers=workers,
                observer=observer,
            )
        self._use_encoder()
        return added

    def search(
        self,
        query: "Query | ImageLike | None" = None,
        *,
        text: str | None = None,
        image: "ImageLike | None" = None,
        case: str | None = None,
        target: Target = "cases",
        k: int = 10,
        where: str | None = None,
        finding: str | None = None,
        like: Sequence[str] = (),
        dislike: Sequence[str] = (),
        region: Box | None = None,
        subject: str | None = None,
        diversify: bool = False,
    ) -> Answer:
        """Find similar cases.

        Args:
            query: a `Query`; an image (file, Pillow, array); or a phrase. A text that names a file which is
                there is an image.
            text: a phrase or a report; beside an image, what else is wanted ("without tubes").
            image: in place of `query`.
            case: a study id of the index, in place of an image.
            target: `cases`, `images` or `reports`.
            k: how many studies.
            where: a filter, such as `sex=F and age>=50`.
            finding: an expression that every hit meets, such as `effusion and not pneumothorax`.
            like: study ids or files to be near to.
            dislike: study ids or files to be far from.
            region: a box of the image, in its pixels.
            subject: whose query it is; that subject's studies are never hits.
            diversify: hits that differ from each other.

        Raises:
            UsageError: the query or the filter cannot be understood.
            UnreadableImage, NotAdmitted: the image cannot be a query.
            EmptyIndex: nothing is indexed.
        """
        if isinstance(query, Query):
            return search(self._searched(), query)
        if isinstance(query, str) and not names_image(query):
            if text is not None:
                raise UsageError(f"there is no image {query!r}; a phrase is given once, as query or as text")
            text = query
        elif query is not None:
            if image is not None:
                raise UsageError("give the image once, as query or as image")
            image = query
        asked = Query(
            image=image, text=text, case=case, target=target, k=k, where=where, finding=finding,
            like=tuple(like), dislike=tuple(dislike), region=region, subject=subject, diversify=diversify,
        )  # fmt: skip
        return search(self._searched(), asked)

    @overload
    def localize(
        self,
        image: "Hit | Case | ImageLike",
        finding: str,
        *,
        method: str | None = None,
        refine: str | None = None,
    ) -> "Localization": ...
    @overload
    def localize(
        self,
        image: "Hit | Case | ImageLike",
        finding: list[str] | tuple[str, ...],
        *,
        method: str | None = None,
        refine: str | None = None,
    ) -> "list[Localization]": ...
    def localize(
        self,
        image: "Hit | Case | ImageLike",
        finding: str | list[str] | tuple[str, ...],
        *,
        method: str | None = None,
        refine: str | None = None,
    ) -> "Localization | list[Localization]":
        """Find a finding in the image of a hit, of a case, or in any other.

        Args:
            image: a hit or a case of an answer, a study id of the index, or an image.
            finding: a phrase, or several.
            method, refine: as of `similarity.localize`.

        Returns:
            For one phrase its `Localization`, for several a list.

        Raises:
            UsageError: there is no such case, or a phrase cannot be asked.
            IndexingError: the case has no image, or its image has changed since it was indexed.
        """
        from similarity.tasks import localize  # late: imports torch

        if isinstance(image, Hit):
            image = image.case
        study = image.study_id if isinstance(image, Case) else image
        if isinstance(study, str) and not names_image(study):
            study = image_location(self.opened, study)
        return localize(
            self.encoder,
            to_picture(study),
            finding,
            method=method,
            refine=refine,
            home=self.opened.home.folder,
        )

    def draft(
        self,
        image: "ImageLike",
        *,
        k: int = 20,
        where: str | None = None,
        subject: str | None = None,
        localize: bool = True,
    ) -> "Draft":
        """Draft a report of an image from its nearest neighbours. Raw material for a reader, never a report.

        Args:
            image: a file, an image of Pillow, or an array.
            k: how many neighbours of each kind (images, reports) vote.
            where: only neighbours that meet this filter.
            subject: whose image it is; that subject's studies do not vote.
            localize: look for what is voted present in the image, where the encoder is calibrated for it;
                without it every side is asked of the reader.

        Raises:
            UsageError: the filter cannot be understood.
            UnreadableImage, NotAdmitted: the image cannot be read.
        """
        from similarity.tasks import draft  # late: imports torch

        self._searched()
        return draft(self, image, k=k, where=where, subject=subject, localize=localize)

    def calibrate(self, *, show_progress: bool = True) -> "Calibrated":
        """Learn from the index's own images what its answers can promise: see `similarity index calibrate`.

        Raises:
            EmptyIndex: nothing was indexed yet.
            ReadOnlyIndex: it was opened read-only.
        """
        from retrieval.reliability.fit import calibrate  # late: takes seconds

        with counting() if show_progress else nullcontext() as on_step:
            return calibrate(self._searched(), on_step)

    def status(self, *, failed: bool = False) -> dict[str, Any]:
        """Return what the index holds, as `similarity index status --json` prints it.

        Args:
            failed: with `items`: every item that is not in the index, or is noted, and why.
        """
        return status_of(self.opened.home.folder, self.opened.catalog, failed=failed)

    def verify(self) -> Verified:
        """Compare catalog, ledger and vectors both ways; `.faults` is empty where they agree."""
        return compare(self.opened)

    def _searched(self) -> OpenIndex:
        """The index, held to the version of the encoder that it was opened with."""
        if self._encoder is not None:
            self.opened.use(self._encoder)
        return self.opened

    def _use_encoder(self) -> None:
        """Search by the encoder that was named, where the index has its vectors already."""
        known = {version.fingerprint for version in self.opened.catalog.versions()}
        if self._encoder is not None and (not known or self._encoder.fingerprint in known):
            self.opened.use(self._encoder)

    def _encoder_of_index(self) -> "Encoder":
        if self.opened.catalog.active_version() is None:
            raise UsageError("the index is empty: open it with the encoder to fill it with, encoder=…")
        return self.opened.encoder
