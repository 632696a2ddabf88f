from unfold.sites import UnfoldAdminSite


class BackOffice(UnfoldAdminSite):
    """The desk's own admin site."""
