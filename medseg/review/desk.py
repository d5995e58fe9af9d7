"""The reviewer's desk: one case open at a time, edits kept as they are made, decisions into the log. No window."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from medseg.errors import InputError, OutputError
from medseg.review.cases import REVIEW, find_cases
from medseg.review.changes import DEFAULT_UNDO_BYTES
from medseg.review.log import AuditLog, Event
from medseg.review.opened import file_name, read_open
from medseg.review.queue import Queue
from medseg.review.recovery import Base, EditJournal, base_of
from medseg.review.versions import Versions
from medseg.volume import Segmentation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from medseg.review.cases import ReviewCase
    from medseg.review.changes import Edit
    from medseg.review.log import Action
    from medseg.review.opened import OpenCase
    from medseg.review.queue import Entry
    from medseg.review.versions import Version


class Desk:
    """A review folder, opened by one reviewer.

    Everything but `read` changes what is on the desk and belongs to one thread; `read` may run ahead in another.

    Parameters
    ----------
    folder : Path
        What is under review; see `find_cases`. The review lies in its folder ``review``.
    who : str
        The reviewer.
    images : sequence of Path
        Where the scans are, where the folder does not tell.
    undo_bytes : int
        What the edits that can be undone may take.
    clock : callable
        Seconds, for the time spent on a case.

    Raises
    ------
    InputError
        Where there is nothing to review.
    OutputError
        Where the review cannot be written there.
    """

    def __init__(
        self,
        folder: Path,
        *,
        who: str,
        images: Sequence[Path] = (),
        undo_bytes: int = DEFAULT_UNDO_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not who.strip():
            raise InputError("the reviewer has no name", remedy="Give --reviewer NAME")
        cases = find_cases(folder, images)
        self.folder = folder
        self.who = who.strip()
        self._place = review_folder(folder)
        self._log = AuditLog(self._place)
        self._cases = cases
        self._undo_bytes = undo_bytes
        self._clock = clock
        self._since = clock()
        self._lock = threading.RLock()
        self.queue = Queue.of(cases, self._log.events())
        self.open_case: OpenCase | None = None

    # -- looking --------------------------------------------------------------------------------------------
    def versions(self, case: ReviewCase) -> Versions:
        """Return the versions of a case's mask."""
        return Versions(self._place / case.id, case.mask, predicted_sha256=case.mask_sha256)

    def events(self, case: str | None = None) -> list[Event]:
        """Return what the log says, of all cases or of one."""
        return self._log.events(case)

    def head(self) -> tuple[int, str]:
        """Return how many entries the log has, and the last one's digest."""
        return self._log.head()

    def verify(self) -> str:
        """Return what shows that the log was tampered with; empty where nothing does."""
        return self._log.verify()

    def decided_masks(self) -> dict[str, Callable[[], Segmentation]]:
        """Return, for every accepted or fixed case, how to read the mask that was decided on."""
        return {
            entry.case.id: partial(self._decided_mask, entry)
            for entry in self.queue
            if entry.status in {"accepted", "fixed"}
        }

    def read(self, case_id: str) -> OpenCase:
        """Return a case with its scan, its newest mask and the edits that an earlier session left unsaved.

        Nothing on the desk changes, so a thread may read the next case while this one is looked at.

        Raises
        ------
        InputError, GeometryError
            Where scan or mask cannot be read, or lie on different grids.
        """
        case = self.queue.get(case_id).case
        return read_open(case, self.versions(case), self._journal_path(case), undo_bytes=self._undo_bytes)

    # -- one case -------------------------------------------------------------------------------------------
    def open(self, case_id: str, read: OpenCase | None = None) -> OpenCase:
        """Put a case on the desk; edits of the one before stay in its journal.

        Parameters
        ----------
        case_id : str
            Which one.
        read : OpenCase, optional
            What `read` gave for it ahead of time. Read anew where it is no longer the newest.
        """
        with self._lock:
            self.put_away()
            is_new = read is not None and read.case.id == case_id and self._is_current(read)
            self.open_case = read if is_new else self.read(case_id)
            self._since = self._clock()
            if self.open_case is None:  # pragma: no cover - for the type checker
                raise InputError("no case is open")
            if self.open_case.recovered:
                self._note("recover", comment=f"{self.open_case.recovered} unsaved edits were brought back", seconds=0)
            return self.open_case

    def put_away(self) -> None:
        """Take the case off the desk; its unsaved edits are on the disk."""
        with self._lock:
            if self.open_case is not None:
                journal = self.open_case.journal
                is_needed = self.open_case.is_edited or self.open_case.has_parts
                (journal.close if is_needed else journal.discard)()
                self.open_case = None

    def close(self) -> None:
        """Put the case away and close the log."""
        self.put_away()
        self._log.close()

    @property
    def seconds(self) -> float:
        """Time on the open case since it was opened or last decided on."""
        return self._clock() - self._since

    def edit(self, edit: Edit, *, is_made: bool = False, is_kept: bool = False) -> None:
        """Make an edit on the open mask, and keep it so that a crash cannot lose it.

        Parameters
        ----------
        edit : Edit
            What changes.
        is_made : bool
            Whether the mask holds it already: a viewer paints by itself.
        is_kept : bool
            Whether `keep` was given all of it already.
        """
        with self._lock:
            current = self._current()
            if not edit.n_voxels:
                return
            if not is_made:
                edit.apply(current.mask)
            current.history.push(edit)
            is_known = current.steps is not None and current.steps >= 0
            current.steps = (current.steps or 0) + 1 if is_known else None
            if not is_kept:
                current.journal.append(edit)
            current.has_parts = False

    def keep(self, edit: Edit, *, is_open: bool = True) -> None:
        """Keep a part of an edit that is still being made and on the mask already; `edit` follows when it is whole.

        Parameters
        ----------
        edit : Edit
            The part.
        is_open : bool
            Whether more is to come; not where this takes back what was kept.
        """
        with self._lock:
            current = self._current()
            current.has_parts = is_open
            if edit.n_voxels:
                current.journal.append(edit)

    def undo(self) -> Edit | None:
        """Take the last edit back and return what that changed; ``None`` where there is nothing to undo."""
        return self._stepped(back=True)

    def redo(self) -> Edit | None:
        """Make the last edit taken back again and return it; ``None`` where there is none."""
        return self._stepped(back=False)

    def sync(self) -> None:
        """Flush the unsaved edits to the disk; for another thread, about once a second."""
        current = self.open_case
        if current is not None:
            current.journal.sync()

    def save(self, comment: str = "") -> Version:
        """Write the mask as a new version and return it; where nothing was edited, the version there is.

        Raises
        ------
        OutputError
            Where it cannot be written; the edits stay in the journal.
        """
        with self._lock:
            current = self._current()
            if not current.is_edited:
                return current.version
            before = current.version
            mask = Segmentation(current.mask, current.scan.geometry, current.labels)
            version = self.versions(current.case).save(mask, who=self.who, parent=before.number, comment=comment)
            self._note("save", comment=comment, version=version, before=before, seconds=0)
            current.journal.discard()
            path = current.journal.path
            current.journal = EditJournal(
                path, Base(version.number, version.sha256, current.mask.shape, current.mask.dtype.name)
            )
            current.version, current.steps, current.recovered = version, 0, 0
            return version

    # -- decisions ------------------------------------------------------------------------------------------
    def accept(self, comment: str = "") -> Entry:
        """Accept the open case; a mask that was edited is saved, and the case counts as fixed."""
        with self._lock:
            is_fixed = self._current().is_edited or self._current().version.number > 0
            self.save(comment)
            return self._decided("fix" if is_fixed else "accept", comment=comment)

    def fix(self, comment: str = "") -> Entry:
        """Save the edited mask of the open case as a version that is right now.

        Raises
        ------
        InputError
            Where nothing was edited.
        """
        with self._lock:
            current = self._current()
            if not current.is_edited and current.version.number == 0:
                raise InputError("nothing was changed", where=current.case.id, remedy="Edit the mask, or accept it")
            self.save(comment)
            return self._decided("fix", comment=comment)

    def reject(self, reason: str, comment: str = "") -> Entry:
        """Reject the open case; edits that were made are kept as a version.

        Raises
        ------
        InputError
            Where no reason is given.
        """
        with self._lock:
            current = self._current()
            if not reason.strip():
                raise InputError("no reason was given", where=current.case.id, remedy="Say why the mask is of no use")
            self.save(comment)
            return self._decided("reject", reason=reason.strip(), comment=comment)

    def reopen(self, comment: str = "") -> Entry:
        """Take the decision on the open case back."""
        with self._lock:
            return self._decided("reopen", comment=comment)

    def comment(self, text: str) -> None:
        """Note a remark on the open case."""
        with self._lock:
            if not text.strip():
                raise InputError("the comment is empty", where=self._current().case.id)
            self._note("comment", comment=text.strip(), seconds=0)

    def note_export(self, dataset: Path) -> None:
        """Note that the review was exported, and under what name."""
        self._log.add(Event(who=self.who, case="", action="export", comment=dataset.name))

    # -- inside ---------------------------------------------------------------------------------------------
    def _current(self) -> OpenCase:
        if self.open_case is None:
            raise InputError("no case is open", remedy="Open one first")
        return self.open_case

    def _journal_path(self, case: ReviewCase) -> Path:
        return self._place / case.id / f"unsaved-{file_name(self.who)}.edits"

    def _decided_mask(self, entry: Entry) -> Segmentation:
        labels = entry.case.labels if len(entry.case.labels) else None
        return self.versions(entry.case).read(entry.version, labels=labels)

    def _is_current(self, read: OpenCase) -> bool:
        """Tell whether what was read ahead still is the newest: no version and no unsaved edit came after it."""
        base = base_of(read.journal.path)
        newest = self.versions(read.case).latest().number
        return newest == read.version.number and (base is None) == (read.recovered == 0)

    def _stepped(self, *, back: bool) -> Edit | None:
        with self._lock:
            current = self._current()
            step = current.history.undo if back else current.history.redo
            done = step(current.mask)
            if done is not None:
                current.journal.append(done)
                if current.steps is not None:
                    current.steps += -1 if back else 1
            return done

    def _decided(self, action: Action, *, reason: str = "", comment: str = "") -> Entry:
        current = self._current()
        self._note(action, reason=reason, comment=comment, seconds=self.seconds)
        self._since = self._clock()
        self.queue = Queue.of(self._cases, self._log.events())
        return self.queue.get(current.case.id)

    def _note(
        self,
        action: Action,
        *,
        seconds: float,
        reason: str = "",
        comment: str = "",
        version: Version | None = None,
        before: Version | None = None,
    ) -> None:
        current = self._current()
        version = version or current.version
        parent = before or (self.versions(current.case).get(0) if version.number else version)
        event = Event(
            who=self.who,
            case=current.case.id,
            action=action,
            reason=reason,
            comment=comment,
            seconds=seconds,
            version=version.number,
            model_sha256=current.case.model_sha256,
            mask_before=parent.sha256,
            mask_after=version.sha256,
        )
        self._log.add(event)


def review_folder(folder: Path) -> Path:
    """Return the folder of the review of what lies in `folder`, made where it is missing.

    Raises
    ------
    OutputError
        Where it cannot be made.
    """
    place = folder / REVIEW
    try:
        place.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"the folder of the review cannot be made ({error.strerror})",
            where=str(place),
            remedy="Copy what is under review to a place you may write to",
        ) from error
    return place
