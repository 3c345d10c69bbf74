// Gradio's server ends a visitor's stream of answers when none is due. An event that it takes while that word is on its way to the
// browser has no stream then, and is answered only with the next event: a click is lost. Here the stream goes on while one is due.
(() => {
  const plain = window.fetch, due = new Set(), ended = new Set(), END = '\n\n';

  const taken = async (answer) => {  // what an event of this page is called
    const {event_id: id} = await answer.clone().json().catch(() => ({}));
    if (id && !ended.delete(id)) due.add(id);  // the answer may be here already
    // where the word was passed on just before, the page reads it now, and opens a stream of its own for this event
    await new Promise((then) => setTimeout(then));
  };
  const kind = (message) => message.slice(message.indexOf('"msg"')).split('"')[3];
  const noted = (message) => {  // an answer that is complete is no longer due
    if (kind(message) !== 'process_completed') return;
    const {event_id: id} = JSON.parse(message.slice(message.indexOf('{')));
    if (!due.delete(id)) ended.add(id);
  };
  const lasting = (answer, again) => {
    let reader = answer.body.getReader(), rest = '', decoder = new TextDecoder();
    const encoder = new TextEncoder();
    const next = async (controller) => {  // passes on what has come; whether there was anything
      const {value, done} = await reader.read();
      if (done) return controller.close() ?? true;
      const messages = (rest + decoder.decode(value, {stream: true})).split(END);
      rest = messages.pop();
      const own = messages.filter((each) => kind(each) !== 'close_stream');
      own.forEach(noted);
      if (own.length) controller.enqueue(encoder.encode(own.join(END) + END));
      if (own.length < messages.length) await ends(controller, messages.find((each) => !own.includes(each)));
      return own.length > 0;
    };
    const ends = async (controller, word) => {
      // a browser that leaves before the server is done looks like a visitor who closed the page, and their events are dropped
      while (!(await reader.read()).done);
      const more = due.size ? await again() : null;
      if (more?.ok) [reader, rest, decoder] = [more.body.getReader(), '', new TextDecoder()];
      else controller.enqueue(encoder.encode(word + END));
    };
    return new ReadableStream({
      async pull(controller) {
        try {
          while (!await next(controller));
        } catch (error) {
          if (error.name !== 'AbortError') throw error;
          try { controller.close(); } catch { /* the page is going */ }
        }
      },
      cancel: (reason) => reader.cancel(reason),
    });
  };
  window.fetch = async (input, init) => {
    const {pathname} = new URL(input.url ?? input, location.href), answer = await plain(input, init);
    if (answer.ok && pathname.endsWith('/queue/join')) await taken(answer);
    if (!answer.ok || !pathname.endsWith('/queue/data')) return answer;
    return new Response(lasting(answer, () => plain(input, init)), answer);
  };
})();
