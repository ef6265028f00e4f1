package kernel

import (
	"errors"
	"strings"
	"testing"
)

var yes = Ability{OK: true}

func no(why string) Ability { return Ability{Why: why} }

// TestChoose: auto fails only where nothing works, and every choice says why.
func TestChoose(t *testing.T) {
	full := Abilities{yes, yes, yes, yes, yes, yes}
	debian, none, poor, noNAT := full, full, full, full
	debian.TCP = no("no espintcp")
	none.ESP, none.UDP, none.TCP, none.Algorithms = no("no ESP"), no("no UDP"), no("no espintcp"), no("no algorithms")
	bare := none
	bare.TUN = no("no TUN")
	poor.Algorithms = no("no CHACHA20_POLY1305")
	noNAT.UDP = no("no UDP")
	noMarks := debian
	noMarks.Marks = no("no nft")
	noTUN := debian
	noTUN.TUN = no("no TUN")
	for _, tc := range []struct {
		name  string
		b     Backend
		can   Abilities
		shape Shape
		why   string // or the error
		notes string
		fails bool
	}{
		{"everything", BackendAuto, full, ShapeXFRM, "in TCP too", "", false},
		{"Debian", BackendAuto, debian, ShapeSplit, "no espintcp", "", false},
		{"Debian without nft", BackendAuto, noMarks, ShapeUserspace, "no espintcp; no nft", "", false},
		{"no ESP", BackendAuto, none, ShapeUserspace, "no ESP; no UDP", "", false},
		{"no NAT traversal", BackendAuto, noNAT, ShapeUserspace, "no UDP", "", false},
		{"an algorithm is missing", BackendAuto, poor, ShapeUserspace, "no CHACHA20_POLY1305", "", false},
		{"no TUN", BackendAuto, noTUN, ShapeXFRM, "no TUN", "cannot fall back to TCP: no espintcp", false},
		{"nothing", BackendAuto, bare, 0, "nothing here can carry ESP: no ESP; no UDP; no TUN", "", true},
		{"xfrm asked for", BackendXFRM, full, ShapeXFRM, "asks for it", "", false},
		{"xfrm on Debian", BackendXFRM, debian, ShapeXFRM, "asks for it", "cannot fall back to TCP: no espintcp", false},
		{"xfrm without an algorithm", BackendXFRM, poor, ShapeXFRM, "asks for it", "no CHACHA20_POLY1305", false},
		{"xfrm without ESP", BackendXFRM, none, 0, "backend=xfrm: no ESP; no UDP; backend=userspace", "", true},
		{"userspace asked for", BackendUserspace, full, ShapeUserspace, "asks for it", "", false},
		{"userspace without TUN", BackendUserspace, noTUN, 0, "backend=userspace: no TUN", "", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := Choose(tc.b, tc.can, "")
			if tc.fails {
				if err == nil || !strings.Contains(err.Error(), tc.why) {
					t.Fatalf("%+v, %v; want an error with %q", c, err, tc.why)
				}
				return
			}
			if err != nil || c.Shape != tc.shape || !strings.Contains(c.Why, tc.why) || c.Backend != tc.b {
				t.Errorf("%+v, %v; want %s because %q", c, err, tc.shape, tc.why)
			}
			if got := strings.Join(c.Notes, "\n"); !strings.Contains(got, tc.notes) || tc.notes == "" && got != "" {
				t.Errorf("notes %q, want %q", got, tc.notes)
			}
		})
	}
}

// TestInstead: what does not start is replaced by what works, for auto; what was asked for is not.
func TestInstead(t *testing.T) {
	full := Abilities{yes, yes, yes, yes, yes, yes}
	debian := full
	debian.TCP = no("no espintcp")
	broken := errors.New("it broke")
	for _, tc := range []struct {
		b      Backend
		can    Abilities
		failed Shape
		want   Shape
		fails  bool
	}{
		{BackendAuto, full, ShapeXFRM, ShapeUserspace, false},
		{BackendAuto, debian, ShapeXFRM, ShapeUserspace, false},
		{BackendAuto, debian, ShapeUserspace, ShapeXFRM, false},
		{BackendXFRM, full, ShapeXFRM, 0, true},
		{BackendUserspace, full, ShapeUserspace, 0, true},
	} {
		c, err := Choose(tc.b, tc.can, "")
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Instead(tc.failed, broken, tc.can)
		if tc.fails {
			if !errors.Is(err, broken) {
				t.Errorf("%s: %s failed: %v", tc.b, tc.failed, err)
			}
			continue
		}
		if err != nil || got.Shape != tc.want || !strings.Contains(got.Why, "it broke") {
			t.Errorf("%s: %s failed: %+v, %v, want %s", tc.b, tc.failed, got, err, tc.want)
		}
	}
}

func TestParseBackend(t *testing.T) {
	for b := range BackendUserspace + 1 {
		if got, err := ParseBackend(b.String()); got != b || err != nil {
			t.Errorf("%s: %v, %v", b, got, err)
		}
	}
	if _, err := ParseBackend("netkey"); err == nil || !strings.Contains(err.Error(), "auto, xfrm, userspace") {
		t.Error(err)
	}
}

// TestChooseForAConnection: auto adds the userspace datapath to a kernel with everything, where a connection asks for it and it can be had.
func TestChooseForAConnection(t *testing.T) {
	full := Abilities{yes, yes, yes, yes, yes, yes}
	noNFT, noTUN := full, full
	noNFT.Marks, noTUN.TUN = no("no nft"), no("no TUN")
	for _, tc := range []struct {
		b     Backend
		can   Abilities
		shape Shape
	}{
		{BackendAuto, full, ShapeSplit}, {BackendAuto, noNFT, ShapeXFRM}, {BackendAuto, noTUN, ShapeXFRM}, {BackendXFRM, full, ShapeXFRM}, {BackendUserspace, full, ShapeUserspace},
	} {
		c, err := Choose(tc.b, tc.can, "road")
		if err != nil || c.Shape != tc.shape || tc.shape == ShapeSplit && !strings.Contains(c.Why, `"road"`) {
			t.Errorf("%s: %+v, %v, want %s", tc.b, c, err, tc.shape)
		}
	}
}

// TestRefuse: what a connection asks for and cannot have is refused with the reason and the cure.
func TestRefuse(t *testing.T) {
	full := Abilities{yes, yes, yes, yes, yes, yes}
	debian, none, noNFT := full, full, full
	debian.TCP, noNFT.Marks = no("no espintcp"), no("no nft")
	none.ESP = no("no ESP")
	wish := func(b Backend, change func(*Wish)) Wish {
		w := Wish{Backend: b, UDP: true, PortWord: "leftikeport="}
		if change != nil {
			change(&w)
		}
		return w
	}
	tcp := func(w *Wish) { w.UDP, w.TCP = false, true }
	fallback := func(w *Wish) { w.TCP = true }
	own := func(w *Wish) { w.OwnPort = true }
	for _, tc := range []struct {
		b     Backend
		can   Abilities
		asker string
		w     Wish
		want  string
	}{
		{BackendAuto, full, "", wish(BackendAuto, fallback), ""},
		{BackendAuto, full, "", wish(BackendXFRM, fallback), ""},
		{BackendAuto, debian, "", wish(BackendXFRM, nil), ""},
		{BackendAuto, debian, "", wish(BackendXFRM, fallback), "no espintcp; set enable-tcp=no"},
		{BackendAuto, none, "", wish(BackendXFRM, nil), "no ESP; remove backend=xfrm"},
		{BackendUserspace, full, "", wish(BackendXFRM, nil), "runs with --backend userspace"},
		{BackendXFRM, full, "", wish(BackendXFRM, nil), ""},
		{BackendAuto, none, "", wish(BackendUserspace, nil), ""},
		{BackendUserspace, full, "", wish(BackendUserspace, nil), ""},
		{BackendXFRM, full, "a", wish(BackendUserspace, own), "runs with --backend xfrm"},
		{BackendAuto, full, "", wish(BackendUserspace, own), "restart ikegod"},
		{BackendAuto, noNFT, "a", wish(BackendUserspace, own), "no nft"},
		{BackendAuto, full, "a", wish(BackendUserspace, own), ""},
		{BackendAuto, full, "a", wish(BackendUserspace, tcp), ""},
		{BackendAuto, debian, "", wish(BackendUserspace, tcp), ""},
		{BackendAuto, debian, "", wish(BackendUserspace, nil), "a port of its own with leftikeport="},
		{BackendAuto, full, "a", wish(BackendUserspace, fallback), "a port of its own with leftikeport="},
		{BackendAuto, full, "a", wish(BackendUserspace, func(w *Wish) { w.OwnPort, w.PlainESP = true, true }), "remove encapsulation=no"},
	} {
		c, err := Choose(tc.b, tc.can, tc.asker)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Refuse(tc.w); !strings.Contains(got, tc.want) || (tc.want == "") != (got == "") {
			t.Errorf("%s, %+v: %q, want %q", c.Shape, tc.w, got, tc.want)
		}
	}
}
