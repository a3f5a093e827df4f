"""The index in the public API: add, search, localize, draft, calibrate, status, verify."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload

from corpus.errors import UsageError
from corpus.geometry import Box
from corpus.notices import Notices
from corpus.progress import silent
from corpus.records import Source
from corpus.sources import open_source
from corpus.tables import TableOptions
from indexer.catalog.studies import Case
from indexer.index import Index as OpenIndex
from indexer.ingest.added import Added
from indexer.ingest.pipeline import add_source
from indexer.ingest.repair import Verified
from indexer.ingest.repair import verify as compare
from indexer.servers import Servers
from indexer.versions import CatalogSource, status_of
from retrieval.answer import Answer, Hit
from retrieval.query.image import IN_MEMORY
from retrieval.query.query import Query, Target
from retrieval.query.references import image_location
from retrieval.search import search
from similarity.images import ImageLike, is_image_name, names_image, to_query_image
from similarity.progress import added_progress, progress_bars

if TYPE_CHECKING:
    from retrieval.draft.text import Draft
    from retrieval.localize.answer import Localization
    from retrieval.reliability.fit import CalibrationReport
    from trainer.runtime.encoder import Encoder


class Index:
    """An open index in a folder or on servers: a context manager, or `close` it.

    One process writes at a time. Opened with `read_only=True`, every write raises `ReadOnlyIndex`.
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
        """Open an index; create an empty one where there is none, unless it is opened read-only.

        Args:
            home: its folder; None: the setting `SIMILARITY_HOME`.
            encoder: embeds new items and queries; loaded, or by folder or name. None: the encoder of the
                active version.
            read_only: refuse every write.
            database_url: Postgres for the catalog; None: the setting `SIMILARITY_DATABASE_URL`, else SQLite
                in the home.
            qdrant_url: a Qdrant server for the vectors; None: the setting `SIMILARITY_QDRANT_URL`, else the
                engine in this process.
            qdrant_api_key: its key; None: the setting `SIMILARITY_QDRANT_API_KEY`.
            on_wait: called with a line of text when this process waits for another, or for a server.

        Returns:
            The open index: a context manager, or `close` it.

        Raises:
            EmptyIndex: it is opened read-only, and there is none.
            HomeError: home, database or Qdrant cannot be used.
            KeyMismatch: the index was made with another key than the home's.
            WrongVectors: database and vectors are of two different indexes.
            IndexInUse: another process owns the index, and did not end in time.
            EncoderError: there is no such encoder.
        """
        folder = None if home is None else Path(home).expanduser()
        if isinstance(encoder, str | Path):
            from similarity.encoders import load_encoder  # late: takes time

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
        """Close the vector store, the database and the home."""
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
        """Update the index from a source: embed new and changed items, delete items that are gone from it.

        Args:
            source: `KIND:PATH` as on the command line, or a `Source`. None: embed the studies of the index
                by the encoder that it was opened with.
            reports: for a DICOM source, a table of reports to join.
            admit: DICOM modalities and body parts to admit besides chest radiographs.
            encoding: of tables and report files; None: detected.
            dates: `day_first`, `month_first`, `excel` or a `strptime` format of a manifest's dates.
            patches: also store patch vectors, for searches by region.
            workers: decode processes; 0 decodes in this one, None: one a core.
            show_progress: on a terminal or in a notebook.

        Returns:
            Counts of studies, vectors and problems (`.problems`); `status(failed=True)` lists the latter.

        Raises:
            UsageError: the index is empty and no encoder was named, or the source is malformed.
            CorpusError: the source cannot be read as a whole.
            ReadOnlyIndex: it was opened read-only.
        """
        encoder = self._encoder or self._encoder_of_index()
        if encoder.folder is None:
            raise UsageError(
                "the encoder has no folder, where a later search finds it: save it and load it from there"
            )
        tables = TableOptions(encoding, dates, Notices())
        if isinstance(source, str):
            table = None if reports is None else Path(reports)
            opened: Source = open_source(source, reports=table, admit=frozenset(admit), tables=tables)
            origin = source
        else:
            opened = CatalogSource(self.opened.catalog) if source is None else source
            origin = opened.name
        with progress_bars() if show_progress else nullcontext(silent) as on_progress:
            added = add_source(
                self.opened,
                opened,
                encoder,
                origin=origin,
                folder=str(encoder.folder),
                patches=patches,
                workers=workers,
                observer=added_progress(on_progress),
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
            query: a `Query`; an image (file, Pillow image, array); or a phrase. A string that names an
                existing file is an image; one that ends as an image file does (.dcm, .png, .jpg, …) and names
                none raises `UsageError`.
            text: a phrase or a report; beside an image, what else is wanted ("without tubes").
            image: in place of `query`.
            case: a study id of the index, in place of an image.
            target: `cases`, `images` or `reports`.
            k: how many studies.
            where: a filter, such as `sex=F and age>=50`.
            finding: an expression that every hit meets, such as `effusion and not pneumothorax`.
            like: relevant examples: study ids or image files.
            dislike: irrelevant examples.
            region: a box of the image, in pixels.
            subject: subject of the query; its own studies are never hits.
            diversify: diverse hits (maximal marginal relevance).

        Returns:
            The answer: a sequence of at most k hits, one a study, the most similar first.

        Raises:
            UsageError: the query or the filter cannot be understood.
            UnreadableImage, NotAdmitted: the image cannot be a query.
            EmptyIndex: nothing is indexed.
            IndexingError: the index has no vector of `case`, or of an example, by the encoder that searches.
            EncoderError: the encoder of the index cannot be loaded, or cannot encode the image.
        """
        if isinstance(query, Query):
            return search(self._searched(), query)
        if isinstance(query, str) and not names_image(query):
            if is_image_name(query):
                raise UsageError(f"there is no image {query!r}; a phrase is given as text=…")
            if text is not None:
                raise UsageError(f"there is no image {query!r}; a phrase is given once, as query or as text")
            text = query
        elif query is not None:
            if image is not None:
                raise UsageError("give the image once, as query or as image")
            image = query
        parts = Query(
            image=image, text=text, case=case, target=target, k=k, where=where, finding=finding,
            like=tuple(like), dislike=tuple(dislike), region=region, subject=subject, diversify=diversify,
        )  # fmt: skip
        return search(self._searched(), parts)

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
        """Localize a finding in the image of a hit or a case, or in any other image.

        Args:
            image: a hit or a case of an answer, a study id of the index, or an image.
            finding: a phrase, or several.
            method, refine: as of `similarity.localize`.

        Returns:
            For one phrase its `Localization`, for several a list.

        Raises:
            UsageError: there is no such case, a phrase is empty or a report, the image is blank or tiny, or
                the method is unknown.
            IndexingError: the case has no image, or its image has changed since it was indexed.
            UnreadableImage, NotAdmitted: the image cannot be read.
            EncoderError: the encoder cannot be loaded, or has no map of features.
            EmptyIndex: nothing is indexed.
        """
        from similarity.localization import localize  # late: takes time

        if isinstance(image, Hit):
            image = image.case
        study = image.study_id if isinstance(image, Case) else image
        if isinstance(study, str) and not names_image(study):
            if is_image_name(study) and ":" not in study:  # a study id is <source>:<name>, and may end so
                raise UsageError(f"there is no image {study!r}")
            study = image_location(self.opened, study)
        return localize(
            self.encoder,
            to_query_image(study),
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
            subject: subject of the image; its own studies do not vote.
            localize: localize the findings voted present, where the encoder is calibrated; without it the
                draft asks the reader for every side.

        Returns:
            The draft: statements with their votes and sources, or the reason why there is none.

        Raises:
            UsageError: the filter cannot be understood.
            UnreadableImage, NotAdmitted: the image cannot be read.
            EmptyIndex: nothing is indexed.
            EncoderError: the encoder of the index cannot be loaded, or cannot encode the image.
        """
        from retrieval.draft.draft import draft, localizer  # late: takes time

        opened, decoded = self._searched(), to_query_image(image)
        location = str(image) if isinstance(image, str | Path) else IN_MEMORY
        phrase_localizer = localizer(opened) if localize else None
        return draft(
            opened,
            location,
            k=k,
            where=where,
            subject=subject,
            phrase_localizer=phrase_localizer,
            decoded=decoded,
        )

    def calibrate(self, *, show_progress: bool = True) -> "CalibrationReport":
        """Fit on the index's own images what answers can promise; see `similarity index calibrate`.

        Args:
            show_progress: on a terminal or in a notebook.

        Returns:
            How many images and subjects were fitted on, and what could not be fitted, with the reason.

        Raises:
            EmptyIndex: nothing was indexed yet.
            ReadOnlyIndex: it was opened read-only.
            EncoderError: the encoder cannot be loaded.
        """
        from retrieval.reliability.fit import calibrate  # late: takes seconds

        with progress_bars() if show_progress else nullcontext(silent) as on_progress:
            return calibrate(self._searched(), on_progress)

    def status(self, *, failed: bool = False) -> dict[str, Any]:
        """Return the contents of the index, as `similarity index status --json` prints them.

        Args:
            failed: add `items`: every item that failed or has a remark, with the reason.
        """
        return status_of(self.opened.home.folder, self.opened.catalog, failed=failed)

    def verify(self) -> Verified:
        """Compare catalog, ledger and vectors both ways; `.faults` is empty where they agree."""
        return compare(self.opened)

    def _searched(self) -> OpenIndex:
        """Return the index at the version of the encoder it was opened with."""
        if self._encoder is not None:
            self.opened.use(self._encoder)
        return self.opened

    def _use_encoder(self) -> None:
        """Use the encoder it was opened with, if the index has a version of it."""
        known = {version.fingerprint for version in self.opened.catalog.versions()}
        if self._encoder is not None and (not known or self._encoder.fingerprint in known):
            self.opened.use(self._encoder)

    def _encoder_of_index(self) -> "Encoder":
        if self.opened.catalog.active_version() is None:
            raise UsageError("the index is empty: open it with the encoder to fill it with, encoder=…")
        return self.opened.encoder


def draft(
    index: Index,
    image: "ImageLike",
    *,
    k: int = 20,
    where: str | None = None,
    subject: str | None = None,
    localize: bool = True,
) -> "Draft":
    """Draft a report of an image from its nearest neighbours; see `Index.draft`."""
    return index.draft(image, k=k, where=where, subject=subject, localize=localize)
