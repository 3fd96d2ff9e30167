"""Who must know of a night is told: by webhook, by e-mail, in a file; what was told is kept in the lake.

    published loads and runs -> messages -> outbox -> webhook, e-mail, file -> outbox

``docs/alerts.md`` says what a receiver can rely on.
"""
