// The server's API: its models, and answers as a stream of events.

class Client {
  constructor() { this.key = sessionStorage.getItem("camelid.key") || ""; }

  setKey(key) { this.key = key; sessionStorage.setItem("camelid.key", key); }

  headers() {
    return { "Content-Type": "application/json", ...(this.key ? { Authorization: `Bearer ${this.key}` } : {}) };
  }

  async models() {
    const response = await this.ask("v1/models", { headers: this.headers() });
    return (await response.json()).data;
  }

  async count(model, messages) {
    const body = JSON.stringify({ model, messages });
    const response = await this.ask("tokenize", { method: "POST", headers: this.headers(), body });
    return response.json();
  }

  async ask(where, request) {
    let response;
    try { response = await fetch(where, request); } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Error("The server cannot be reached. Is it still running? Nothing that you typed is lost.");
    }
    if (response.ok) return response;
    let message = `The server answered ${response.status}.`;
    try { message = (await response.json()).error.message; } catch { /* no JSON: the status says enough */ }
    if (response.status === 401) message = "The server asks for a key: give it in the settings.";
    if (response.status === 429) message = `The server is busy: ${message}`;
    throw new Error(message);
  }

  // Calls back with each piece of the answer; gives the reason of its end, usage and timings.
  async stream(body, signal, onPiece) {
    const response = await this.ask("v1/chat/completions", { method: "POST", headers: this.headers(), signal,
      body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }) });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const end = { reason: null, usage: null, timings: null };
    let held = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) throw new Error("The connection ended before the answer did.");
      const events = (held + value).split("\n\n");
      held = events.pop();
      for (const event of events) {
        const data = event.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n");
        if (!data) continue;
        if (data === "[DONE]") return end;
        const piece = JSON.parse(data);
        if (piece.error) throw new Error(piece.error.message);
        if (piece.usage) Object.assign(end, { usage: piece.usage, timings: piece.timings });
        for (const choice of piece.choices) {
          const { content, reasoning_content: thought } = choice.delta;
          if (content || thought) onPiece(content || "", thought || "", choice.logprobs ? choice.logprobs.content : []);
          if (choice.finish_reason) end.reason = choice.finish_reason;
        }
      }
    }
  }
}
