package hostnet

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/testing/subnets"
)

// killed is a Net with two policies that was killed, and its TUN is gone.
func killed(t *testing.T, set Settings) {
	t.Helper()
	n, err := New("t0", set)
	if err != nil {
		t.Fatal(err)
	}
	loads(t, n)
	kill(t, n)
}

func loads(t *testing.T, n *Net) {
	t.Helper()
	route(t, n, "a", subnets.Of("192.0.1.0/24"), subnets.Of("192.0.2.0/24"), 1438, between("192.1.2.45", "192.1.2.23"))
	route(t, n, "b", subnets.Of("192.0.1.0/24"), subnets.Of("192.0.3.0/24/tcp/80"), 1438)
}

func recorded(t *testing.T, dir string) bool {
	t.Helper()
	_, err := os.Stat(filepath.Join(dir, recordName))
	return err == nil
}

// A daemon that does without a TUN takes away what one with it has left, and leaves alone what may be somebody else's.
func TestSweepLeft(t *testing.T) {
	namespace(t)
	dir := t.TempDir()
	if text, err := SweepLeft(dir); text != "" || err != nil {
		t.Errorf("nothing was left: %q %v", text, err)
	}
	sh(t, "ip link del t0")
	before := state(t)
	sh(t, "ip tuntap add t0 mode tun")
	killed(t, Settings{RunDir: dir, Table: 5000, Preference: 5100, Mark: 7, Opened: kernel.Mark{Value: 1 << 30, Mask: 1 << 30}})
	left := state(t)
	if text, err := SweepLeft(dir); err == nil || text != "" || !strings.Contains(err.Error(), "t0, which is in use") {
		t.Errorf("the TUN is there: %q %v", text, err)
	}
	if now := state(t); now != left || !recorded(t, dir) {
		t.Errorf("before:\n%s\nafter a refusal:\n%s", left, now)
	}
	sh(t, "ip link del t0")
	sh(t, "ip rule add from all lookup 100 pref 5102")
	left = state(t)
	if text, err := SweepLeft(dir); err == nil || text != "" || !strings.Contains(err.Error(), "rule 5102 (lookup 100)") {
		t.Errorf("somebody else has a rule there: %q %v", text, err)
	}
	if now := state(t); now != left || !recorded(t, dir) {
		t.Errorf("before:\n%s\nafter a refusal:\n%s", left, now)
	}
	sh(t, "ip rule del pref 5102 lookup 100")
	if text, err := SweepLeft(dir); err != nil || !strings.Contains(text, "rules from 5100 on, routing tables from 5000 on, and nft table ikegod") {
		t.Errorf("%q %v", text, err)
	}
	if now := state(t); now != before || recorded(t, dir) {
		t.Errorf("without a daemon:\n%s\nafter:\n%s", before, now)
	}
}

// What a killed daemon with other numbers has left goes too, when the policies are in place.
func TestOtherNumbersAreSwept(t *testing.T) {
	for name, set := range map[string]Settings{"all": {Table: 6000, Preference: 6000, Mark: 6}, "preference": {Preference: 4510}, "table": {Table: 4600}, "mark": {Mark: 6}} {
		t.Run(name, func(t *testing.T) {
			namespace(t)
			set.RunDir = t.TempDir()
			killed(t, Settings{RunDir: set.RunDir})
			second := open(t, set)
			loads(t, second)
			if err := second.Close(); err != nil { // before its time
				t.Fatal(err)
			}
			if got := rules(t, "4503"); len(got) == 0 || !recorded(t, set.RunDir) {
				t.Errorf("after a daemon that could not start: %q", got)
			}
			sh(t, "ip link del t0")
			sh(t, "ip tuntap add t0 mode tun")
			third := open(t, set)
			loads(t, third)
			if err := third.Sweep(); err != nil {
				t.Fatal(err)
			}
			after := state(t)
			if err := third.Close(); err != nil {
				t.Fatal(err)
			}
			if recorded(t, set.RunDir) {
				t.Error("the record is left by a clean stop")
			}
			fresh := open(t, set)
			loads(t, fresh)
			if want := anyTable(state(t)); anyTable(after) != want {
				t.Errorf("after a crash:\n%s\nwithout one:\n%s", after, want)
			}
		})
	}
}

// What only a daemon beside the kernel's IPsec has goes with the first one that is not.
func TestForwardChainGoes(t *testing.T) {
	namespace(t)
	killed(t, Settings{Opened: kernel.Mark{Value: 1 << 30, Mask: 1 << 30}})
	n := open(t, Settings{})
	loads(t, n)
	if err := n.Sweep(); err != nil {
		t.Fatal(err)
	}
	if table := sh(t, "nft list table inet "+DefaultNFTable); strings.Contains(table, "forward") || strings.Contains(table, "0x40000000") {
		t.Errorf("left:\n%s", table)
	}
}

// What could not be swept is swept by the next call, and by Close.
func TestSweepIsTriedAgain(t *testing.T) {
	namespace(t)
	broken := func(n *Net) {
		t.Helper()
		name := n.guard.table.Name
		n.guard.table.Name = "absent"
		if err := n.Sweep(); err == nil {
			t.Fatal("swept a table that is not there")
		}
		n.guard.table.Name = name
		if !strings.Contains(state(t), "192.1.2.23 . 192.1.2.45") {
			t.Fatal("nothing is left to be swept")
		}
	}
	empty := func(n *Net) string {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		sh(t, "ip link del t0")
		sh(t, "ip tuntap add t0 mode tun")
		return state(t)
	}
	before := empty(open(t, Settings{}))
	killed(t, Settings{})
	n := open(t, Settings{})
	broken(n)
	if err := n.Sweep(); err != nil {
		t.Error(err)
	}
	if got := state(t); strings.Contains(got, "192.0.2.0/24") || strings.Contains(got, "192.1.2.23") {
		t.Errorf("left:\n%s", got)
	}
	if after := empty(n); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	killed(t, Settings{})
	n = open(t, Settings{})
	broken(n)
	if after := empty(n); after != before {
		t.Errorf("stopped before it was tried again; before:\n%s\nafter:\n%s", before, after)
	}
}

// TestDamagedRecord: a record that cannot be read keeps no tunnel from starting; it is put aside, and said.
func TestDamagedRecord(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, recordName)
	if err := os.WriteFile(name, []byte(`{"used": [{"mark"`), 0o600); err != nil {
		t.Fatal(err)
	}
	n := &Net{set: Settings{RunDir: dir, Mark: 7}}
	if err := n.recall(); err != nil {
		t.Fatal(err)
	}
	if notes := n.Notes(); len(notes) != 1 || !strings.Contains(notes[0], "is damaged and was put aside as "+name+".damaged") {
		t.Errorf("notes %q", notes)
	}
	if _, err := os.Stat(name + ".damaged"); err != nil || recorded(t, dir) {
		t.Errorf("put aside: %v, still there: %v", err, recorded(t, dir))
	}
	if err := n.note(); err != nil {
		t.Fatal(err)
	}
	if all, err := readRecord(dir); err != nil || len(all) != 1 || all[0].Mark != 7 {
		t.Errorf("%+v, %v", all, err)
	}
}
