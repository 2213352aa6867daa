package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/agent/store"
	"nigh/agent/trust"
)

// Moved says what [ImportKey] did.
type Moved struct {
	ID  identity.DeviceID // that this machine has now
	Was identity.DeviceID // that it had before; zero when it had none, or the same
	Old string            // the file that has the key of Was now, "" when there is none
	trust.Imported
}

// ExportKey returns what moves this device to another machine: the exported trust book, with the device key of cfg.State sealed by
// a passphrase in it. book is what the running agent exported; "" takes the copy in the state folder. It takes a second or so. The
// error is for [Explain].
func ExportKey(cfg Config, book string, passphrase []byte) (string, identity.DeviceID, error) {
	if err := cfg.Complete(); err != nil {
		return "", identity.DeviceID{}, err
	}
	raw := []byte(book)
	if book == "" {
		var err error
		if raw, err = trust.ReadCopy(filepath.Join(cfg.State, trustCopy)); err != nil {
			return "", identity.DeviceID{}, noState(cfg, err)
		}
	}
	sealed, id, err := identity.Seal(cfg.State, passphrase)
	if err != nil {
		return "", id, noState(cfg, err)
	}
	raw, err = trust.WithKey(raw, string(sealed))
	return string(raw), id, err
}

// noState explains an error about the state folder.
func noState(cfg Config, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &control.Error{Code: control.CodeNotFound, Message: "there is no device key in " + cfg.State, Hint: "run this as the user whose agent it is, or name the folder with --state"}
	}
	return err
}

// ImportKey makes this machine the device that [ExportKey] wrote text on, and takes the trust book of it. No agent may run on
// cfg.State meanwhile. A machine that is a device already is only made another one when replace is set; its key is kept
// then. Whatever is wrong with text or passphrase is found before anything is changed. The error is for [Explain].
func ImportKey(cfg Config, text string, passphrase []byte, replace bool) (Moved, error) {
	if err := cfg.Complete(); err != nil {
		return Moved{}, err
	}
	now, err := loadRules(cfg)
	if err != nil {
		return Moved{}, err
	}
	sealed, err := trust.KeyOf([]byte(text))
	if err != nil {
		return Moved{}, err
	}
	key, err := identity.Unseal([]byte(sealed), passphrase)
	if err != nil {
		return Moved{}, err
	}
	s, err := store.Open(cfg.State)
	if locked, ok := errors.AsType[store.ErrLocked](err); ok {
		return Moved{}, &control.Error{
			Code: control.CodeBusy, Message: fmt.Sprintf("an agent (process %d) runs with the key in %s", locked.PID, locked.Dir),
			Hint: "stop it first: systemctl stop nigh@USER; nothing was changed",
		}
	}
	if err != nil {
		return Moved{}, err
	}
	defer func() { _ = s.Close() }() // every change is committed by then
	m := Moved{ID: key.ID}
	was, err := identity.Current(cfg.State)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Moved{}, err
	}
	if err == nil && was != key.ID {
		if !replace {
			return Moved{}, &control.Error{
				Code: control.CodePermission, Message: "this machine is the device " + was.Short() + " already; it would be " + key.ID.Short() + " instead, and those that trust it as it is would not know it",
				Hint: "say --replace-key to do it all the same; the old key is kept",
			}
		}
		m.Was, m.Old = was, filepath.Join(cfg.State, identity.Kept(was))
	}
	book, err := trust.Open(s)
	if err != nil {
		return Moved{}, err
	}
	book.Rule(now.trust())
	// The book first: it harms nothing should the key not follow.
	if m.Imported, err = book.Import([]byte(text), key.ID); err != nil {
		return Moved{}, err
	}
	if err := book.Remove(key.ID); err != nil && !errors.Is(err, trust.ErrUnknown) {
		return Moved{}, err // the two machines knew each other
	}
	return m, key.Install(cfg.State)
}
