"""What the admin's lists take from an address or a form: what their own pages send."""

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.contrib.admin.exceptions import DisallowedModelAdminLookup
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.views.main import ORDER_VAR, SEARCH_VAR, ChangeList
from django.core.exceptions import SuspiciousOperation, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.datastructures import MultiValueDict

from thumbnails.exceptions import UsageError
from thumbnails.models import Run
from thumbnails.upkeep.selection import conditions

COLUMNS_AT_MOST = 20
"""That a list can be ordered by at once. None has as many."""

if TYPE_CHECKING:  # Django's own class takes no type parameter at run time
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin


class BoundedList(ChangeList):
    """Takes the lookups that its filters offer and no others.

    Django takes any lookup on the model's columns: a regular expression keeps the database busy,
    and `startswith` tells a secret letter by letter.
    """

    def get_filters(self, request: HttpRequest) -> Any:
        found = super().get_filters(request)
        _, _, lookups, *_ = found  # a filter takes its own out of them
        if lookups:
            raise DisallowedModelAdminLookup(f"No filter offers {', '.join(lookups)}.")
        return found


class Refused(SuspiciousOperation):
    """A request that none of the site's pages sends; Django answers 400. A sentence says why."""


class BoundedAdmin(ModelAdmin):
    """A ModelAdmin that answers 400 to what none of its pages sends, before it reads any row.

    Subclasses that have a list class of their own derive it from BoundedList.
    """

    class Media:
        css: ClassVar = {"all": ["thumbnails/admin.css", "thumbnails/pages.css"]}

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return BoundedList

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        try:
            _check_query(request.GET)
            self._check_selected(request.POST.getlist(ACTION_CHECKBOX_NAME))
            return super().changelist_view(request, extra_context)
        except Refused as error:
            return _refusal(str(error))
        except OverflowError:  # SQLite, of a date or number that Django took
            return _refusal("A value in the address is out of range.")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Also of `admin/autocomplete/`, which asks no list."""
        _check_search(search_term)
        return super().get_search_results(request, queryset, search_term)

    def _check_selected(self, keys: list[str]) -> None:
        key_field: Any = self.opts.pk
        try:
            for key in keys:
                key_field.clean(key, None)
        except ValidationError:
            raise Refused("One of the selected rows has no valid key.") from None

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Nothing: no page links to a form with values in the address."""
        return {}


class ReadOnlyAdmin(BoundedAdmin):
    """A BoundedAdmin whose pages change nothing."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def may_start_some(request: HttpRequest) -> bool:
    """Whether the user may start runs of some kind."""
    return any(request.user.has_perm(kind.permission) for kind in Run.Kind)


def _check_query(query: MultiValueDict[str, str]) -> None:
    for name, values in query.lists():
        if any("\0" in text for text in (name, *values)):
            raise Refused("The address contains a null character.")
    _check_search(query.get(SEARCH_VAR, ""))  # before the filters count what they offer
    if query.get(ORDER_VAR, "").count(".") >= COLUMNS_AT_MOST:
        raise Refused(f"A list is ordered by at most {COLUMNS_AT_MOST} columns.")


def _check_search(text: str) -> None:
    try:
        conditions.search_text(text)
    except UsageError as error:
        raise Refused(str(error)) from error


def _refusal(sentence: str) -> HttpResponse:
    return HttpResponse(
        f"{sentence}\n", content_type="text/plain; charset=utf-8", status=HTTPStatus.BAD_REQUEST
    )
