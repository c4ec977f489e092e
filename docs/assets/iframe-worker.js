// Search from files that are opened without a server: there a browser starts no Worker, so a hidden frame stands in.
class FrameWorker extends EventTarget {
  constructor(url) {
    super()
    this.frame = document.createElement("iframe")
    this.frame.hidden = true
    document.body.appendChild(this.frame)
    const page = this.frame.contentWindow
    page.postMessage = (data) => this.receive(data)
    page.importScripts = (...urls) => urls.reduce((before, next) => before.then(() => load(page, next)), Promise.resolve())
    this.loaded = load(page, url)
  }

  receive(data) {
    const event = new MessageEvent("message", { data })
    this.dispatchEvent(event)
    if (this.onmessage) this.onmessage(event)
  }

  postMessage(data) {
    const page = this.frame.contentWindow
    this.loaded.then(() => page.dispatchEvent(new page.MessageEvent("message", { data: structuredClone(data) })))
  }

  terminate() {
    this.frame.remove()
  }
}

function load(page, url) {
  return new Promise((resolve, reject) => {
    const script = page.document.createElement("script")
    script.src = new URL(url, location)
    script.onload = resolve
    script.onerror = reject
    page.document.body.appendChild(script)
  })
}

if (location.protocol === "file:") window.Worker = FrameWorker
