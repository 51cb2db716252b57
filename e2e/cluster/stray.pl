# Sends packets of TCP connections once more, moved far out of their window: connection tracking
# calls such a packet invalid, and does not rewrite its addresses.
#
#   perl -e SCRIPT echo PORT WORD      what is sent from PORT and has WORD in it, in the background
#                                      for a minute; prints the process, counts in /run/stray.PROCESS
#   perl -e SCRIPT call ADDRESS PORT TIMES PATH
#                                      calls so often over one connection, and sends each request
#                                      once more so; prints the last answer, or the error
use strict;
use warnings;
use IO::Socket::IP;

use constant { AF_PACKET => 17, ALL => 3, IPV6 => 0x86dd, TCP => 6, FAR => 1 << 30 };

my $patience = 4;    # seconds

sub open_raw {
    open(my $file, "<", "/sys/class/net/eth0/ifindex") or die "eth0: $!\n";
    my $index = 0 + <$file>;
    socket(my $raw, AF_PACKET, SOCK_RAW, unpack("n", pack("S", ALL))) or die "raw socket: $!\n";
    bind($raw, pack("SnlSCCa8", AF_PACKET, ALL, $index, 0, 0, 0, "")) or die "raw socket: $!\n";
    return $raw;
}

# The next packet that is sent from a port and has a word in it.
sub next_packet {
    my ($raw, $port, $word) = @_;
    while (1) {
        recv($raw, my $frame, 65536, 0);
        next if index($frame, $word) < 0;
        return $frame if unpack("n", substr($frame, start_of_tcp($frame), 2)) == $port;
    }
}

sub start_of_tcp {
    my ($frame) = @_;
    return 14 + 40 if unpack("n", substr($frame, 12, 2)) == IPV6;
    return 14 + 4 * (ord(substr($frame, 14, 1)) & 15);
}

# A reset that is the answer to it is believed only where it acknowledges all that has come.
sub send_astray {
    my ($raw, $frame, $come) = @_;
    my $at = start_of_tcp($frame);
    my ($sequence, $acknowledged) = unpack("NN", substr($frame, $at + 4, 8));
    my @moved = (($sequence + FAR) & 0xffffffff, ($acknowledged + $come) & 0xffffffff);
    substr($frame, $at + 4, 8) = pack("NN", @moved);
    substr($frame, $at + 16, 2) = "\0\0";
    my $tcp = substr($frame, $at);
    my $addresses = $at == 14 + 40 ? substr($frame, 22, 32) : substr($frame, 26, 8);
    my $summed = $addresses . pack("NN", length $tcp, TCP) . $tcp;
    my $sum = unpack("%32n*", length($summed) & 1 ? "$summed\0" : $summed);
    $sum = ($sum & 0xffff) + ($sum >> 16) while $sum >> 16;
    substr($frame, $at + 16, 2) = pack("n", ~$sum & 0xffff);
    send($raw, $frame, 0) or die "send: $!\n";
}

sub ask {
    my ($connection, $path) = @_;
    $connection->syswrite("GET $path HTTP/1.1\r\nHost: echo\r\n\r\n") or return "! $!";
    my $said = "";
    while (1) {
        my $got = $connection->sysread($said, 4096, length $said);
        return "! $!" if !defined $got;
        return "! closed" if !$got;
        my ($head, $body) = split /\r\n\r\n/, $said, 2;
        my ($length) = $head =~ /content-length: *(\d+)/i;
        next if !defined $body || !defined $length || length $body < $length;
        return ($body, length $said);
    }
}

my $mode = shift;
my $raw = open_raw();
if ($mode eq "echo") {
    my ($port, $word) = @ARGV;
    if (my $child = fork) { print "$child\n"; exit }
    open(my $file, ">", "/run/stray.$$") or die "/run/stray.$$: $!\n";
    open(STDOUT, ">", "/dev/null");
    open(STDERR, ">", "/dev/null");
    alarm 60;
    for (my $sent = 1; ; $sent++) {
        send_astray($raw, next_packet($raw, $port, $word), 0);
        sysseek($file, 0, 0);
        syswrite($file, $sent);
    }
} else {
    my ($address, $port, $times, $path) = @ARGV;
    $SIG{ALRM} = sub { print "! timed out"; exit };
    alarm $patience;
    my $connection = IO::Socket::IP->new(PeerHost => $address, PeerPort => $port);
    my $said = $connection ? "" : "! $!";
    while ($said !~ /^!/ && $times-- > 0) {
        alarm $patience;
        ($said, my $come) = ask($connection, $path);
        next if $said =~ /^!/;
        send_astray($raw, next_packet($raw, $connection->sockport, $path), $come);
    }
    print $said;
}
