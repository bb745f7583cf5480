// Plays the tracks of a song that are in the archive in step: one clock, and a gain and a meter for each.
// Without this script each track has a plain player; a track that plays from the provider keeps it, one at a time.
// Tracks are decoded as a whole, on demand, and started together at one time of the clock: so they are in step
// to the sample. A song of three minutes takes 46 MB a track at this rate; silent stems are dropped.
"use strict";
(() => {
  const RATE = 32000;
  const SILENT = 0.001;
  const PEAKS = 600;
  const ROLL_SECONDS = 8;
  const PITCHES = ["C", "C♯", "D", "D♯", "E", "F", "F♯", "G", "G♯", "A", "A♯", "B"];

  const root = document.getElementById("song");
  const minutes = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
  const nameOf = (pitch) => `${PITCHES[pitch % 12]}${Math.floor(pitch / 12) - 1}`;
  const loudest = (samples) => samples.reduce((most, each) => Math.max(most, Math.abs(each)), 0);
  const find = (selector, inside = root) => inside.querySelector(selector);
  const calm = matchMedia("(prefers-reduced-motion: reduce)");

  const tracks = [...root.querySelectorAll(".track[data-here]")].map((element) => ({
    element, name: element.dataset.name, group: element.dataset.group, url: element.dataset.here, mute: false, solo: false,
  }));

  // One clock, in seconds.
  let clock = null;
  let playing = false;
  let startedAt = 0;
  let offset = 0;
  let length = 0;
  let listen = "";
  let follows = null; // a plain player that plays in place of the clock

  const choices = [...new Set(tracks.map(({ group, name }) => (group === "stem" ? "Stems" : name)))];
  const chosen = (choice) => tracks.filter(({ group, name }) => (group === "stem" ? choice === "Stems" : choice === name));

  function position() {
    if (follows) return follows.currentTime;
    if (!playing) return offset;
    return Math.min(length, offset + Math.max(0, clock.currentTime - startedAt));
  }

  async function load(track) {
    const answer = await fetch(track.url);
    if (!answer.ok) throw new Error(`the archive answered ${answer.status}`);
    const sound = await clock.decodeAudioData(await answer.arrayBuffer());
    track.peaks = peaksOf(sound);
    track.seconds = sound.duration;
    track.buffer = Math.max(...track.peaks) > SILENT ? sound : null;
    track.gain = clock.createGain();
    track.gain.gain.value = 0;
    track.ears = clock.createAnalyser();
    track.wave = new Float32Array(track.ears.fftSize);
    track.gain.connect(track.ears).connect(clock.destination);
    track.loaded = true;
    length = Math.max(length, track.seconds);
    if (!track.buffer) find(".name", track.element).append(" · silent");
    drawWave(track);
  }

  function start() {
    startedAt = clock.currentTime + 0.05;
    for (const track of tracks.filter((each) => each.buffer && offset < each.seconds)) {
      track.source = clock.createBufferSource();
      track.source.buffer = track.buffer;
      track.source.connect(track.gain);
      track.source.start(startedAt, offset);
    }
    playing = true;
    mix();
    requestAnimationFrame(frame);
  }

  function stop() {
    offset = position();
    playing = false;
    for (const track of tracks) {
      track.source?.stop();
      track.source = null;
    }
  }

  function seek(to) {
    if (follows) follows.currentTime = to;
    const goesOn = playing;
    if (goesOn) stop();
    offset = to;
    if (goesOn) start();
    else frame();
  }

  function mix() {
    const heard = chosen(listen);
    const alone = heard.some((each) => each.solo);
    for (const track of tracks.filter((each) => each.loaded)) {
      const on = heard.includes(track) && (listen !== "Stems" || (alone ? track.solo : !track.mute));
      track.gain.gain.cancelScheduledValues(clock.currentTime);
      track.gain.gain.setTargetAtTime(on ? 1 : 0, clock.currentTime, 0.005);
      track.element.classList.toggle("heard", on);
    }
  }

  async function choose(choice) {
    listen = choice;
    clock ??= new AudioContext({ sampleRate: RATE });
    const missing = chosen(choice).filter((each) => !each.loaded);
    for (const [number, track] of missing.entries()) {
      say(`Loading ${track.name}, ${number + 1} of ${missing.length}`);
      try {
        await (track.loading ??= load(track));
      } catch (error) {
        tracks.splice(tracks.indexOf(track), 1);
        tell(find("canvas", track.element), `${track.name} cannot be played: ${error.message}`);
      }
      if (listen !== choice) return;
    }
    say("");
    if (playing && missing.length) seek(position());
    mix();
    frame();
  }

  const say = (words) => { find(".status").textContent = words; };

  function level(track) {
    if (!playing || !track.ears) return 0;
    track.ears.getFloatTimeDomainData(track.wave);
    const peak = loudest(track.wave);
    return peak < SILENT ? 0 : Math.sqrt(Math.min(1, peak));
  }

  function peaksOf(sound) {
    const samples = sound.getChannelData(0);
    const each = Math.max(1, Math.floor(samples.length / PEAKS));
    return new Float32Array(PEAKS).map((_, number) => loudest(samples.subarray(number * each, (number + 1) * each)));
  }

  function sheet(canvas) {
    canvas.hidden = false;
    const sharp = devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (canvas.width !== Math.round(width * sharp)) canvas.width = Math.round(width * sharp);
    if (canvas.height !== Math.round(height * sharp)) canvas.height = Math.round(height * sharp);
    const pen = canvas.getContext("2d");
    pen.setTransform(sharp, 0, 0, sharp, 0, 0);
    pen.clearRect(0, 0, width, height);
    return { pen, width, height, colour: (name) => getComputedStyle(canvas).getPropertyValue(`--${name}`) };
  }

  function drawWave(track) {
    const { pen, width, height, colour } = sheet(find(".wave", track.element));
    const [each, most] = [(width * track.seconds) / length / PEAKS, Math.max(...track.peaks, SILENT)];
    if (track.each !== each) {
      [track.each, track.shape] = [each, new Path2D()];
      track.peaks.forEach((peak, number) => {
        const tall = Math.max(1, (peak / most) * height);
        track.shape.rect(number * each, (height - tall) / 2, Math.max(1, each - 0.4), tall);
      });
    }
    const played = (position() / length) * width;
    for (const [from, to, name] of [[0, played, "accent"], [played, width, "faint"]]) {
      pen.save();
      pen.beginPath();
      pen.rect(from, 0, to - from, height);
      pen.clip();
      pen.fillStyle = colour(name);
      pen.fill(track.shape);
      pen.restore();
    }
  }

  const roll = find(".roll");
  let notes = [];
  let [low, high] = [0, 0]; // the pitches that the roll shows
  let words = [];

  function drawRoll(now) {
    const { pen, width, height, colour } = sheet(roll);
    // Whoever wants little motion sees a page at a time, and the line moves.
    // At the beginning and at the end of the song the notes stand still, so that no half is empty.
    const last = Math.max(0, Math.max(length || Infinity, now) - ROLL_SECONDS);
    const moving = Math.min(Math.max(0, now - ROLL_SECONDS / 4), last);
    const from = calm.matches ? Math.floor(now / ROLL_SECONDS) * ROLL_SECONDS : moving;
    const across = (seconds) => ((seconds - from) / ROLL_SECONDS) * width;
    const sounding = [];
    for (const note of notes) {
      if (note.start > from + ROLL_SECONDS) break;
      if (note.end < from) continue;
      const sounds = note.start <= now && now < note.end;
      if (sounds) sounding.push(`${note.instrument} ${nameOf(note.pitch)}`);
      pen.fillStyle = colour(sounds ? "accent" : "edge");
      pen.globalAlpha = sounds ? 1 : 0.35 + 0.5 * note.velocity;
      const y = height - ((note.pitch - low) / (high - low)) * height;
      pen.fillRect(across(note.start), y, Math.max(2, across(note.end) - across(note.start) - 1), Math.max(2, height / (high - low) - 1));
    }
    pen.globalAlpha = 1;
    pen.fillStyle = colour("accent");
    pen.fillRect(across(now), 0, 1, height);
    find(".sounding").textContent = sounding.join(", ") || "No note sounds here.";
  }

  function light(now) {
    for (const word of words) {
      word.element.classList.toggle("sung", word.start <= now);
      word.element.classList.toggle("lit", word.start <= now && now < word.end);
    }
  }

  // Where each word stands in the lyrics, which have the lines and the sections between them; null: they are others.
  function placesOf(timed, lyrics) {
    const places = [];
    let read = 0;
    for (const each of timed) {
      const said = each.word.trim();
      let at = lyrics.indexOf(said, read);
      while (said && at > 0 && !/\s/.test(lyrics[at - 1])) at = lyrics.indexOf(said, at + 1);
      if (at < 0) return null;
      places.push(at);
      read = at + said.length;
    }
    return places;
  }

  function frame() {
    const now = position();
    if (playing && now >= length) {
      stop();
      offset = 0; // where it begins when it is played again
    }
    Object.assign(find(".seek"), { max: length, value: now });
    find(".seek").setAttribute("aria-valuetext", `${minutes(now)} of ${minutes(length)}`);
    find(".time").textContent = `${minutes(now)} / ${minutes(length)}`;
    find(".play").textContent = playing ? "Pause" : "Play";
    for (const track of tracks.filter((each) => each.loaded)) {
      drawWave(track);
      const meter = find("meter", track.element);
      if (meter) meter.value = level(track);
    }
    if (notes.length) drawRoll(now);
    light(now);
    if (playing || (follows && !follows.paused)) requestAnimationFrame(frame);
  }

  for (const choice of choices) {
    const label = document.createElement("label");
    const radio = document.createElement("input");
    Object.assign(radio, { type: "radio", name: "listen", value: choice, checked: choice === choices[0] });
    radio.addEventListener("change", () => choose(choice));
    label.append(radio, ` ${choice}`);
    find(".listen").append(label);
  }

  for (const track of tracks) {
    find("audio", track.element).remove();
    for (const what of ["mute", "solo"]) {
      const button = find(`.${what}`, track.element);
      button?.addEventListener("click", () => {
        button.setAttribute("aria-pressed", track[what] = !track[what]);
        mix();
      });
    }
    for (const part of track.element.querySelectorAll("[hidden]")) part.hidden = false;
  }

  function tell(player, words) {
    const said = document.createElement("p");
    said.className = "error";
    said.textContent = words;
    player.replaceWith(said);
  }

  // What plays from the provider: the notes and the words follow it, and a link that has ended says so.
  for (const player of root.querySelectorAll(".track audio")) {
    player.addEventListener("error", () => tell(player, "The provider’s link has ended, or cannot be played from here."));
    player.addEventListener("play", () => {
      if (playing) stop();
      if (follows !== player) follows?.pause();
      follows = player;
      frame();
    });
  }

  if (choices.length) {
    find(".transport").hidden = false;
    listen = choices[0];
    find(".play").addEventListener("click", async () => {
      if (playing) {
        stop();
        return frame();
      }
      offset = position();
      follows?.pause();
      follows = null;
      await choose(listen);
      await clock.resume();
      start();
    });
    find(".seek").addEventListener("input", (event) => seek(Number(event.target.value)));
  }

  // The archive is no job, so no turn tells of it: look until it has all files, and show them when nothing plays.
  const AGAIN_MS = 2000;
  const LOOKS = 150;

  const quiet = () => !playing && [...root.querySelectorAll("audio")].every((each) => each.paused);

  async function whenArchived(page, looks) {
    const answer = document.hidden ? null : await fetch(`${page}?archiving=yes`).catch(() => null);
    const told = answer?.ok ? await answer.text() : "data-archiving";
    if (!told.includes("data-archiving") && quiet()) return location.replace(page);
    if (looks > 1) setTimeout(whenArchived, AGAIN_MS, page, looks - 1);
    else find(".archiving").textContent = "The archive does not have all files: ask again, or see the log of the workers.";
  }

  if (root.dataset.archiving) {
    find(".archiving").textContent = "Workers store the files: this page shows them as soon as all are there.";
    setTimeout(whenArchived, AGAIN_MS, root.dataset.archiving, LOOKS);
  }

  // The notes and the words in time: what the page itself leaves out.
  if (!roll && !find(".lyrics")) return;
  fetch(root.dataset.song).then((answer) => answer.json()).then((song) => {
    notes = song.instruments.flatMap((each) => each.notes.map((note) => ({ ...note, instrument: each.name })));
    notes.sort((one, other) => one.start - other.start);
    low = notes.reduce((least, note) => Math.min(least, note.pitch), 127) - 1;
    high = notes.reduce((most, note) => Math.max(most, note.pitch), 0) + 2;
    length = Math.max(length, ...song.takes.map((each) => each.seconds ?? 0));
    if (song.words.length) {
      find(".lyrics").replaceChildren();
      words = song.words.map((word) => ({ ...word, element: document.createElement("span") }));
      const at = placesOf(words, song.lyrics);
      let read = 0;
      for (const [number, word] of words.entries()) {
        word.element.textContent = at ? word.word.trim() : word.word;
        find(".lyrics").append(at ? song.lyrics.slice(read, at[number]) : " ", word.element);
        if (at) read = at[number] + word.word.trim().length;
      }
      if (at) find(".lyrics").append(song.lyrics.slice(read));
    }
    frame();
  });
})();
