// Whether new runs are stopped: read by the frame, shown on every page.
import type { Schemas } from '../api/client';

export type KillSwitch = Schemas['KillSwitchView'];

class Switch {
  /** How it stands; nothing before the server has said so. */
  view = $state.raw<KillSwitch | undefined>(undefined);
}

export const killSwitch = new Switch();
