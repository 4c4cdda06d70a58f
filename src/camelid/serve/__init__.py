"""An OpenAI-compatible server over the engine: the API, and the page to chat on."""
