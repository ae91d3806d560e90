// The box for questions.
import { Component, Icon, debounce, grow, html } from "./dom.js";
import { faultIn } from "./settings.js";
import { keep, state, update, writeSetting } from "./store.js";
import * as talk from "./talk.js";

const MOST_TEXT = 1_000_000, MOST_IMAGE = 4_000_000; // bytes of an attached file
const SHOWN = /^image\/(png|jpeg|gif|webp)$/;

export class Composer extends Component {
  state = { fault: "" };

  #kept = debounce(() => {
    const { conversation } = this.props;
    if (state.conversations.includes(conversation)) keep(conversation);
    else writeSetting("unsent", conversation.unsent);
  }, 200);

  componentDidMount() {
    if (!matchMedia("(pointer: coarse)").matches) this.box.focus();
    this.box.setSelectionRange(this.box.value.length, this.box.value.length);
    grow(this.box);
    this.componentDidUpdate();
  }

  componentDidUpdate() {
    if (state.send && state.ready) { // Enter was pressed before the models were known
      state.send = false;
      this.send();
    }
    if (this.busy && !talk.running(this.props.conversation) && document.activeElement === document.body) this.box.focus();
    this.busy = !!talk.running(this.props.conversation);
  }

  type = (event) => {
    this.props.conversation.unsent = event.target.value;
    grow(this.box);
    this.#kept();
  };

  keys = (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.send();
  };

  send() {
    const { conversation } = this.props, text = conversation.unsent, files = conversation.files || [];
    if ((!text.trim() && !files.length) || talk.running(conversation)) return;
    if (!state.ready) {
      state.send = true; // as soon as the models are known
      return;
    }
    const fault = faultIn(conversation.settings);
    this.setState({ fault });
    if (fault) return;
    Object.assign(conversation, { unsent: "", files: [] });
    this.box.value = "";
    grow(this.box);
    writeSetting("unsent", "");
    talk.ask(conversation, text, files);
    requestAnimationFrame(() => scrollTo(0, document.documentElement.scrollHeight));
  }

  attach = async (files) => {
    const { conversation } = this.props, images = talk.modelOf(conversation.settings)?.redraft.images;
    let fault = "";
    for (const file of files) {
      const image = SHOWN.test(file.type);
      if (image && !images) fault = `${file.name}: this model does not accept images.`;
      else if (file.size > (image ? MOST_IMAGE : MOST_TEXT)) fault = `${file.name} is too large.`;
      else {
        const data = image ? await asAddress(file) : await asText(file);
        if (data === null) fault = `${file.name} is not a text file.`;
        else conversation.files = [...(conversation.files || []), { name: file.name, kind: image ? "image" : "text", data }];
      }
    }
    this.setState({ fault });
    this.#kept();
  };

  drop(file) {
    const { conversation } = this.props;
    conversation.files = conversation.files.filter((each) => each !== file);
    this.setState({ fault: "" });
  }

  render({ conversation, children }, { fault }) {
    const busy = talk.running(conversation);
    const given = (event) => { this.attach([...event.target.files]); event.target.value = ""; };
    const pasted = (event) => {
      const files = [...(event.clipboardData?.files || [])];
      if (files.length) { event.preventDefault(); this.attach(files); }
    };
    const dropped = (event) => { event.preventDefault(); this.attach([...event.dataTransfer.files]); };
    return html`<form id="composer" class="box" onSubmit=${(event) => { event.preventDefault(); this.send(); }}
        onDragOver=${(event) => event.preventDefault()} onDrop=${dropped}>
      ${conversation.files?.length > 0 && html`<div class="row files">${conversation.files.map((file) => html`
        <span class="chip">${file.name}<button type="button" class="drop" aria-label=${`Remove ${file.name}`}
          onClick=${() => this.drop(file)}>×</button></span>`)}</div>`}
      <textarea id="box" rows="1" aria-label="Your message" placeholder="Ask something" dir="auto" defaultValue=${conversation.unsent}
        ref=${(box) => { this.box = box || this.box; }} onInput=${this.type} onKeyDown=${this.keys} onPaste=${pasted}></textarea>
      <div class="line">
        <label class="attach"><span class="sr">Attach files</span><${Icon} name="attach" /><input type="file" multiple onChange=${given} /></label>
        ${children}
        ${busy ? html`<button type="button" id="stop" onClick=${() => talk.stop(conversation)}><${Icon} name="stop" />Stop</button>`
          : html`<button id="send" class="main"><${Icon} name="send" />Send</button>`}
      </div>
      <p class="fault" role="status">${fault}</p></form>`;
  }
}

function asAddress(file) {
  return new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.readAsDataURL(file);
  });
}

async function asText(file) {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
    return text.includes("\0") ? null : text;
  } catch {
    return null;
  }
}
