// The server's API, as any other client uses it.

export class Refused extends Error {
  constructor(status, error) {
    super(error.message || `The server answered with status ${status}.`);
    this.status = status;
    this.code = error.code || "";
    this.param = error.param || "";
  }
}

export class Lost extends Error {
  constructor() {
    super("The connection to the server was lost.");
  }
}

async function ask(path, how) {
  let reply;
  try {
    reply = await fetch(path, how);
  } catch (error) {
    throw error.name === "AbortError" ? error : new Lost();
  }
  if (reply.ok) return reply;
  const said = await reply.json().catch(() => ({}));
  throw new Refused(reply.status, said.error || {});
}

export const get = async (path) => (await ask(path)).json();

const posted = (body, more) => ({
  method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), ...more,
});

export const post = async (path, body) => (await ask(path, posted(body))).json();

// The server's error message for a check; empty if a request may contain the check.
export async function faultOf(check) {
  const { error } = await get(`v1/checks?check=${encodeURIComponent(check)}`);
  return (error?.message || "").replace(/\s*checks: .*$/s, "");
}

// The chunks of a streamed answer.
export async function* chunks(body, signal) {
  const reply = await ask("v1/chat/completions", posted(body, { signal }));
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", whole = false;
  for (;;) {
    const { done, value } = await reader.read().catch((error) => {
      throw error.name === "AbortError" ? error : new Lost();
    });
    if (done && whole) return;
    if (done) throw new Lost();
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      whole ||= line === "data: [DONE]";
      if (whole || !line.startsWith("data: ")) continue;
      const chunk = JSON.parse(line.slice(6));
      if (chunk.error) throw new Refused(200, chunk.error);
      yield chunk;
    }
  }
}
