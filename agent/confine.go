package agent

import (
	"context"
	"path/filepath"

	"nigh/agent/clean"
	"nigh/agent/control"
	"nigh/agent/sandbox"
)

// confine puts the sandbox in force: from here on the process opens its own folders and what the system has, and through the
// broker what the person named, in commands and earlier.
func (a *Agent) confine() {
	box := a.cfg.Sandbox
	if box == nil {
		a.loose.Store(a.cfg.Loose)
		a.log.Warn("Sandbox is not in force", "why", a.cfg.Loose)
		return
	}
	err := box.Enter(sandbox.Rules{
		Read:  []string{DefaultConfigDir()},
		Write: []string{a.cfg.State, filepath.Dir(a.cfg.Socket), a.cfg.Inbox},

		Programs: a.hooks.programs(), Environ: a.hooks.environ,
	})
	if err != nil {
		a.loose.Store(err.Error())
		a.log.Warn("Sandbox is not in force", "why", err)
		return
	}
	read, write := a.transfers.Paths()
	for _, share := range a.shares.List() {
		read = append(read, share.Folder)
	}
	for _, r := range a.trust.List() {
		if r.Folder != "" {
			write = append(write, r.Folder)
		}
	}
	if a.given.file != "" {
		read = append(read, a.given.file) // it is read again at a reload
	}
	for _, path := range read {
		a.grant(path, false)
	}
	for _, path := range write {
		a.grant(path, true)
	}
	a.log.Info("Sandbox is in force", "landlock_abi", box.ABI())
}

// grant lets the agent use a path that the person named. What cannot be granted is told when it is used.
func (a *Agent) grant(path string, write bool) {
	if err := sandbox.Grant(path, write); err != nil {
		a.log.Debug("Path not granted", "path", clean.Text(path), "err", err)
	}
}

// followBroker ends the agent when its broker ends: nothing could be sent any more, and only a new process can have one.
func (a *Agent) followBroker(ctx context.Context) error {
	if a.cfg.Sandbox == nil {
		return nil
	}
	select {
	case <-ctx.Done():
		return nil
	case <-a.cfg.Sandbox.Gone():
		return sandbox.ErrBroker
	}
}

// sandboxView is what status says of the sandbox.
func (a *Agent) sandboxView() control.Sandbox {
	if why, _ := a.loose.Load().(string); why != "" {
		return control.Sandbox{State: "off", Why: why}
	}
	return control.Sandbox{State: "landlock"}
}
