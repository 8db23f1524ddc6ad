// One clock for many videos, counted in frames.
//
// The position is a number of frames, p: frame floor(p) is shown. A video with its own rate f is then at p / f seconds,
// whatever its rate, so clips of different rates walk in step frame by frame. Paused, p ends in .5: the middle of a
// frame, where a seek is exact. Playing, every video runs by itself at a rate that keeps it in step; one that drifts
// by more than half a frame is hurried or slowed, and one that is far off is put back. The clock itself follows the
// time of day and waits for no video.

const CLOCK_DRIFT = 0.5; // frames; more than this is corrected
const CLOCK_FAR = 3; // frames; more than this is a seek, since hurrying would take too long
const CLOCK_GAP = 1; // seconds; a longer pause between two ticks is a sleeping tab, whose time does not count
const CLOCK_RATES = [0.0625, 16]; // what browsers accept as playbackRate

class Clock {
  #members = new Map();
  #listeners = { frame: new Set(), state: new Set() };
  #position = 0.5;
  #playing = false;
  #request = 0;
  #last = 0;
  #announced = 0;
  #speed = 1;
  #frames = 1;
  #fps = 1;

  /** `frames`: those of the longest clip; `fps`: frames a second at speed 1. */
  constructor({ frames, fps, loop = true, speed = 1 }) {
    this.frames = frames;
    this.fps = fps;
    this.loop = loop;
    this.speed = speed;
  }

  /** The current frame, from 0. */
  get frame() {
    return Math.min(Math.floor(this.#position), this.#frames - 1);
  }

  get playing() {
    return this.#playing;
  }

  get frames() {
    return this.#frames;
  }

  set frames(count) {
    if (!Number.isInteger(count)) throw new RangeError(`frames = ${count}: must be a whole number.`);
    clockPositive("frames", count);
    this.#frames = count;
    if (this.#position >= count) this.seek(count - 1);
  }

  get fps() {
    return this.#fps;
  }

  set fps(rate) {
    this.#fps = clockPositive("fps", rate);
    this.#setRates();
  }

  get speed() {
    return this.#speed;
  }

  set speed(factor) {
    this.#speed = clockPositive("speed", factor);
    this.#setRates();
  }

  /** Let a video with its own count and rate join at the current frame. Its source may be set, or changed, later. */
  add(video, { frames, fps }) {
    this.remove(video);
    const member = { video, frames, fps: clockPositive("fps", fps), goal: null, starting: false, blocked: false };
    member.arrived = () => this.#place(member);
    member.sought = () => {
      const { goal } = member;
      member.goal = null;
      if (goal !== null && Math.abs(video.currentTime - goal) > 0.001) this.#seekTo(member, goal);
      else if (this.#playing) this.#follow(member);
    };
    video.muted = true; // browsers let only silent videos start by themselves
    video.playsInline = true;
    video.addEventListener("loadedmetadata", member.arrived);
    video.addEventListener("seeked", member.sought);
    this.#members.set(video, member);
    this.#place(member);
  }

  /** Let a video go; it stops where it is. */
  remove(video) {
    const member = this.#members.get(video);
    if (!member) return;
    this.#members.delete(video);
    video.removeEventListener("loadedmetadata", member.arrived);
    video.removeEventListener("seeked", member.sought);
    video.pause();
  }

  /** Start, from the beginning where the end was reached. */
  play() {
    if (this.#playing) return;
    if (!this.loop && this.frame === this.#frames - 1) this.seek(0);
    this.#playing = true;
    this.#last = performance.now();
    for (const member of this.#members.values()) {
      member.blocked = false;
      this.#follow(member);
    }
    this.#request = requestAnimationFrame(this.#tick);
    this.#tell("state", true);
  }

  /** Stop, with every video exactly on the current frame. */
  pause() {
    if (!this.#playing) return;
    this.#playing = false;
    cancelAnimationFrame(this.#request);
    this.#stand(this.frame);
    this.#tell("state", false);
  }

  toggle() {
    if (this.#playing) this.pause();
    else this.play();
  }

  /** Go to a whole frame; beyond the ends means the end. Playing goes on from there. */
  seek(frame) {
    this.#stand(Math.min(Math.max(Math.round(frame), 0), this.#frames - 1));
    this.#announce();
  }

  /** Pause and move by `delta` frames; a looping clock walks on over the ends. */
  step(delta) {
    this.pause();
    const goal = this.frame + delta;
    this.seek(this.loop ? ((goal % this.#frames) + this.#frames) % this.#frames : goal);
  }

  /** Call back on every new "frame" (with its number) or "state" (playing or not); returns what ends it. */
  on(kind, callback) {
    this.#listeners[kind].add(callback);
    return () => this.#listeners[kind].delete(callback);
  }

  /** Let go of every video and listener. */
  dispose() {
    this.#playing = false;
    cancelAnimationFrame(this.#request);
    for (const video of [...this.#members.keys()]) this.remove(video);
    for (const callbacks of Object.values(this.#listeners)) callbacks.clear();
  }

  #tick = (now) => {
    if (!this.#playing) return;
    const seconds = Math.max(0, now - this.#last) / 1000;
    this.#last = now;
    if (seconds < CLOCK_GAP) this.#position += seconds * this.#fps * this.#speed;
    if (this.#position >= this.#frames) {
      if (!this.loop) {
        this.#position = this.#frames - 0.5;
        this.#announce();
        this.pause();
        return;
      }
      this.#position %= this.#frames;
      for (const member of this.#members.values()) this.#place(member);
    }
    for (const member of this.#members.values()) this.#follow(member);
    this.#announce();
    this.#request = requestAnimationFrame(this.#tick);
  };

  /** Put the clock and every video on the middle of a frame. */
  #stand(frame) {
    this.#position = frame + 0.5;
    for (const member of this.#members.values()) this.#place(member);
  }

  /** Put one video where the clock is. */
  #place(member) {
    const { video, frames, fps } = member;
    const over = this.#position >= frames - 0.5; // a shorter clip stays on its last frame
    if (!this.#playing || over) video.pause();
    this.#seekTo(member, (over ? frames - 0.5 : this.#position) / fps);
  }

  /** Seek; while a seek is under way the newest goal waits for it, so that scrubbing shows what it passes. */
  #seekTo(member, seconds) {
    const { video } = member;
    if (video.readyState === 0) return; // placed when it has arrived
    if (video.seeking) member.goal = seconds;
    else if (Math.abs(video.currentTime - seconds) > 1e-5) video.currentTime = seconds;
  }

  /** Keep one playing video in step. */
  #follow(member) {
    const { video, frames, fps } = member;
    if (video.readyState < 2 || video.seeking) return;
    if (this.#position >= frames - 0.5) {
      if (!video.paused || video.currentTime * fps < frames - 1) this.#place(member);
      return;
    }
    const late = this.#position - video.currentTime * fps;
    if (member.blocked ? Math.floor(video.currentTime * fps) !== this.frame : Math.abs(late) > CLOCK_FAR) {
      this.#place(member);
    }
    this.#setRate(member, late);
    if (video.paused && !member.starting && !member.blocked) this.#start(member);
  }

  /** Start one video; where the browser refuses, it is moved frame by frame instead. */
  #start(member) {
    member.starting = true;
    member.video.play().then(
      () => {
        member.starting = false;
        if (!this.#playing || !this.#members.has(member.video)) member.video.pause();
      },
      (error) => {
        member.starting = false;
        member.blocked = error.name === "NotAllowedError";
      },
    );
  }

  #setRates() {
    for (const member of this.#members.values()) this.#setRate(member, 0);
  }

  #setRate(member, late) {
    const even = (this.#speed * this.#fps) / member.fps;
    const hurry = Math.abs(late) > CLOCK_DRIFT || (member.hurried && Math.abs(late) > CLOCK_DRIFT / 5);
    member.hurried = hurry;
    const rate = hurry ? even * (late > 0 ? 1.25 : 0.8) : even;
    const allowed = Math.min(Math.max(rate, CLOCK_RATES[0]), CLOCK_RATES[1]);
    if (member.video.playbackRate !== allowed) member.video.playbackRate = allowed;
  }

  #announce() {
    if (this.frame === this.#announced) return;
    this.#announced = this.frame;
    this.#tell("frame", this.frame);
  }

  #tell(kind, value) {
    for (const callback of [...this.#listeners[kind]]) callback(value);
  }
}

function clockPositive(name, value) {
  if (!(Number.isFinite(value) && value > 0)) throw new RangeError(`${name} = ${value}: must be a positive number.`);
  return value;
}
