/** Shapes that the page shares with the Rust side. Times are nanoseconds from the trace's start, exact below 2^53. */

export type Ns = number;

/** How a row is drawn: `looks` of the schema. */
export type Look = number;

export interface ClassInfo {
  class: number;
  word: string;
  label: string;
  meaning: string;
  light: string;
  dark: string;
  pattern: 'solid' | 'hatch' | 'dots';
  used: boolean;
}

export interface Schema {
  classes: ClassInfo[];
  /** Classes from the bottom of a column to its top. */
  order: number[];
  in_poll: number;
  palette: { light: string[]; dark: string[] };
  events: { id: number; name: string; group: string; meaning: string; args: { name: string; kind: string }[] }[];
  columns: number;
  looks: { states: number; named: number; steps: number; values: number; missing: number };
  limits: { tiles: number; page: number; arrows: number };
}

export interface Session {
  traces: { id: string; name: string; duration_ns: Ns }[];
  can_record: boolean;
}

export interface Finding {
  label: string;
  waited_ns: Ns;
  waits: number;
  in_poll_ns: Ns;
  waiter: string | null;
  holder: string | null;
  row: string;
  begin: Ns;
  end: Ns;
}

export interface LossText {
  thread: string;
  row: string;
  reason: string;
  count: number;
  at: Ns;
}

export interface Group {
  key: string;
  label: string;
  total: number;
}

export interface Summary {
  id: string;
  name: string;
  program: string;
  pid: number;
  writer: string;
  start_realtime_ns: string;
  duration_ns: Ns;
  events: number;
  lost: number;
  threads: number;
  tasks: number;
  locks: number;
  complete: boolean;
  problems: string[];
  losses: LossText[];
  kinds: Record<string, number>;
  sources: [string, string][];
  notes: [string, string][];
  findings: Finding[];
  groups: Group[];
}

export interface Lane {
  key: string;
  look: Look;
}

export interface Track {
  key: string;
  label: string;
  note: string;
  lanes: Lane[];
  begin: Ns;
  end: Ns;
  children?: string;
}

export interface Page {
  tracks: Track[];
  total: number;
  cursor?: number;
}

export interface Fact {
  name: string;
  text?: string;
  ns?: Ns;
  at?: Ns;
  row?: string;
}

export interface Frame {
  function: string;
  file: string;
  line: number;
  inlined: boolean;
  /** It belongs to what the program is built on: std, the runtime, kymo's hooks. */
  machinery: boolean;
}

export interface Details {
  row: string;
  track: string | null;
  look: Look;
  begin: Ns;
  end: Ns;
  open: boolean;
  title: string;
  subtitle: string;
  class?: number;
  facts: Fact[];
  counts?: { class: number; count: number }[];
  stacks: { title: string; frames: Frame[] }[];
}

export interface Place {
  at: Ns;
  rows: string[];
}

export interface Arrow {
  into: boolean;
  from: Place;
  to: Place;
  text: string;
}

export interface Flows {
  arrows: Arrow[];
  total: number;
}

export interface Hit {
  label: string;
  kind: string;
  note: string;
  row: string;
  begin: Ns;
  end: Ns;
}

export interface Hits {
  hits: Hit[];
  total: number;
}

/** A stretch of time. */
export interface Window {
  begin: Ns;
  end: Ns;
}

/** A slice: its row, and an instant in it. */
export interface Selection {
  row: string;
  at: Ns;
}

export type Theme = 'light' | 'dark';

/** Everything that the page shows follows from this. */
export interface State {
  session: Session | null;
  summary: Summary | null;
  window: Window;
  /** Groups whose tracks are shown. */
  open: ReadonlySet<string>;
  /** Pages of tracks by group, as far as they were asked for. */
  pages: ReadonlyMap<string, Page>;
  selection: Selection | null;
  /** What the selection is, once the server has said so. */
  details: Details | null;
  flows: Flows | null;
  /** A stretch that was measured. */
  area: Window | null;
  /** The track that the keyboard is at. */
  track: string | null;
  legend: boolean;
  theme: Theme;
  /** What went wrong last, for people. */
  error: string | null;
  /** What is being done, for people: recording, opening. */
  busy: string | null;
}

/** A line of the timeline, laid out. */
export interface Entry {
  kind: 'group' | 'track' | 'more';
  /** The group's key, or the track's. */
  key: string;
  label: string;
  note: string;
  depth: number;
  y: number;
  height: number;
  lanes: { key: string; look: Look; y: number; height: number }[];
  /** What a click on its label opens or closes. */
  opens: string | null;
  isOpen: boolean;
}

/** A tile, decoded as far as drawing needs. */
export interface Tile {
  look: Look;
  /** The runs as they came. */
  bytes: DataView;
  /** Where they begin. */
  offset: number;
  /** Steps: the most at once. */
  most: number;
  /** Values: the row's least and greatest. */
  range: [number, number];
  names: string[];
}

/** One slice, as wide as its columns. */
export interface Solid {
  from: number;
  columns: number;
  class: number;
  begins: boolean;
  ends: boolean;
  name: string;
}

export interface Binding {
  keys: string[];
  does: string;
  about: string;
  run: (event: KeyboardEvent) => void;
}
