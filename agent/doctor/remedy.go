package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"nigh/systemd"
)

// Remedy is a change of the system that `nigh doctor --fix` makes when a person agreed: one file of the administrator's, which
// a program is told of. It can be taken back.
type Remedy struct {
	Name string // after --fix
	Does string // what it does, one sentence
	Lost string // what is lost by it, one sentence
	Path string // of the file
	Text string // of the file

	reload func(context.Context) error // has the program that reads the file read it again
}

// ErrForeign is wrapped by errors about a file that somebody else wrote or changed, which is left alone.
var ErrForeign = errors.New("the file is not nigh's")

// Remedies lists all that there are. bus is the address of the bus to be told; "" = the system bus.
func Remedies(bus string) []Remedy {
	return []Remedy{{
		Name: "networkmanager",
		Does: "Keeps NetworkManager from removing Wi-Fi Direct groups that it did not make, by a D-Bus policy.",
		Lost: "NetworkManager's own Wi-Fi Direct (screen casting, as by gnome-network-displays) stops working; its Wi-Fi connections do not change.",
		Path: "/etc/dbus-1/system.d/zz-nigh.conf", Text: systemd.KeepPolicy,
		reload: func(ctx context.Context) error { return reloadBus(ctx, bus) },
	}}
}

// InForce reports whether the file is there as nigh would write it. Another file in its place is ErrForeign.
func (r Remedy) InForce() (bool, error) {
	text, err := os.ReadFile(r.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("doctor: %w", err)
	}
	if string(text) != r.Text {
		return false, fmt.Errorf("doctor: %s: %w", r.Path, ErrForeign)
	}
	return true, nil
}

// Allowed is nil when this user may write the file.
func (r Remedy) Allowed() error {
	if err := writable(Existing(filepath.Dir(r.Path))); err != nil {
		return fmt.Errorf("doctor: %w", err)
	}
	return nil
}

// Apply writes the file and has it read. When that fails the file is removed again.
func (r Remedy) Apply(ctx context.Context) error {
	if there, err := r.InForce(); err != nil || there {
		return err
	}
	folder := filepath.Dir(r.Path)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("doctor: %w", err)
	}
	// Whole or not at all, under a name that its reader ignores meanwhile.
	fresh, err := os.CreateTemp(folder, ".nigh-*")
	if err != nil {
		return fmt.Errorf("doctor: %w", err)
	}
	_, err = fresh.WriteString(r.Text)
	err = errors.Join(err, fresh.Chmod(0o644), fresh.Sync(), fresh.Close())
	if err == nil {
		err = os.Rename(fresh.Name(), r.Path)
	}
	if err != nil {
		return fmt.Errorf("doctor: %w", errors.Join(err, os.Remove(fresh.Name())))
	}
	if err := r.reload(ctx); err != nil {
		return fmt.Errorf("doctor: %w", errors.Join(err, os.Remove(r.Path)))
	}
	return nil
}

// Undo removes the file and has that noticed. Without the file it does nothing.
func (r Remedy) Undo(ctx context.Context) error {
	if there, err := r.InForce(); err != nil || !there {
		return err
	}
	if err := os.Remove(r.Path); err != nil {
		return fmt.Errorf("doctor: %w", err)
	}
	if err := r.reload(ctx); err != nil {
		return fmt.Errorf("doctor: %s is removed, but: %w", r.Path, err)
	}
	return nil
}

// reloadBus has the bus read its policies again, as systemctl reload dbus does, with dbus-daemon and dbus-broker alike.
func reloadBus(ctx context.Context, address string) error {
	conn, err := connect(ctx, address)
	if err != nil {
		return fmt.Errorf("the bus cannot be told: %w", err)
	}
	defer conn.Close()
	if err := conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.ReloadConfig", 0).Err; err != nil {
		return fmt.Errorf("the bus does not read its policies again: %w", err)
	}
	return nil
}
