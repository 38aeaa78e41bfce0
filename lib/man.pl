#!/usr/bin/perl
# SPDX-License-Identifier: MIT
#
# Makes section 3 man pages of the comments in a public header:
#
#   lib/man.pl KERNEL-DOC HEADER DIRECTORY VERSION
#
# kernel-doc finds and checks the comments and writes section 9 pages for the
# kernel's manual; this splits them into a file each, sets the synopsis the way
# the C library's pages do, and adds the cross-references. The comment that
# opens the header becomes an overview with a list of the calls.
use strict;
use warnings;

my ($kernel_doc, $header, $directory, $version) = @ARGV;
my ($include) = $header =~ m{([^/]+)$};

open my $in, '<', $header or die "$header: $!\n";
my $source = do { local $/; <$in> };
my %documented = map { $_ => 1 } $source =~ m{^/\*\*\n \* (?:\w+ )?(voxshm_\w+)(?:\(\))? - }mg;
my ($overview, $purpose, $introduction) = $source =~ m{^/\*\n \* (voxshm\w*) - (.*?)\.?\n \*\n(.*?)\n \*/}ms
	or die "$header: opens without a comment that says what it is\n";
my %is_typedef = map { $_ => 1 } $source =~ /^typedef [^;]*?\(\*(voxshm_\w+)\)/mg;

# What kernel-doc would stumble over: our attribute, and an @ that is meant
# ("@name" with its quotes). It wants a file.
my $AT = "\x01";
$source =~ s/\bVOXSHM_API //g;
$source =~ s/"@/"$AT/g;
my $plain = "$directory/$include";
open my $out, '>', $plain or die "$plain: $!\n";
print $out $source;
close $out or die "$plain: $!\n";

my $pages = `perl $kernel_doc -Werror -man $plain`;
die "$header: kernel-doc refuses it\n" if $?;
unlink $plain;

write_overview();
write_page($_) for grep { /\S/ } split /^(?=\.TH )/m, $pages;

sub write_page {
	my ($page) = @_;
	my ($kind, $name) = $page =~ /^\.TH "[^"]*" 9 "(?:(struct|enum) )?(\w+)"/
		or die "$header: a page without a name:\n$page";

	my %section;
	my @order;
	for (split /^(?=\.SH )/m, $page) {
		my ($title, $text) = /^\.SH "?(.*?)"?\n(.*)/s or next;
		push @order, uc $title;
		$section{uc $title} = $text;
	}
	$section{NAME} =~ s/^(?:struct|enum) //;
	$section{SYNOPSIS} = ".nf\n.B #include <$include>\n.PP\n"
		. ($kind ? type_synopsis($section{SYNOPSIS}) : call_synopsis($name, $section{SYNOPSIS}))
		. ".fi\n";
	delete $section{ARGUMENTS} if ($section{ARGUMENTS} // '') =~ /^\.IP "void"/;

	my %mentioned = map { $_ => 1 } $page =~ /\b(voxshm_\w+)/g;
	my @others = grep { $_ ne $name && $documented{$_} } sort keys %mentioned;
	$section{'SEE ALSO'} = join ",\n", map { ".BR $_ (3)" } @others, $overview;

	save($name, map { [ $_ eq 'RETURN' ? 'RETURN VALUE' : $_,
		/^(SYNOPSIS|SEE ALSO)$/ ? $section{$_} : prose($section{$_}) ] }
		grep { defined $section{$_} } @order, 'SEE ALSO');
}

sub write_overview {
	my $text = $introduction =~ s/^ \* ?//mgr;
	$text =~ s/^\n/.PP\n/mg;
	$text =~ s/\b(voxshm_\w+)\(\)/\\fB$1\\fP/g;
	my $calls = '';
	while ($source =~ m{^/\*\*\n \* (voxshm_\w+)\(\) - (.*)}mg) {
		$calls .= ".TP\n.BR $1 (3)\n$2\n";
	}
	save($overview, [ 'NAME', "$overview \\- $purpose\n" ],
		[ 'SYNOPSIS', ".nf\n.B #include <$include>\n.PP\ncc ... \$(pkg-config --cflags --libs libvoxshm)\n.fi\n" ],
		[ 'DESCRIPTION', prose($text) ], [ 'CALLS', prose($calls) ],
		[ 'SEE ALSO', ".BR voxshm (1)" . ($overview eq 'voxshm' ? '' : ",\n.BR voxshm (3)") ]);
}

sub save {
	my ($name, @sections) = @_;
	open my $file, '>', "$directory/$name.3" or die "$directory/$name.3: $!\n";
	print $file qq{.TH "$name" 3 "" "libvoxshm $version" "voxshm"\n};
	print $file ".SH $_->[0]\n", $_->[1] =~ s/\n?\z/\n/r for @sections;
	close $file or die "$directory/$name.3: $!\n";
}

# struct and enum: the members as they are declared.
sub type_synopsis {
	my ($text) = @_;
	$text =~ s/^\.br\n//mg;
	$text =~ s/^\.BI "\n//mg;
	$text =~ s/^\.BI "(.*)"\n, \n/$1,\n/mg;
	$text =~ s/^\.BI "(.*)"\n/$1\n/mg;
	$text =~ s/^\s*\n//mg;
	return join '', map { ".B \"$_\"\n" } split /\n/, $text;
}

# A function or function type: types bold, names italic, a parameter a line.
sub call_synopsis {
	my ($name, $text) = @_;
	my ($type) = $text =~ /^\.B "(.*?)"/;
	$type .= ' ' unless $type =~ /\*$/;
	my $open = $is_typedef{$name} ? "typedef $type(*$name)(" : "$type$name(";
	my $indent = ' ' x length $open;
	my $result = '';
	while ($text =~ /^\.BI "\(?(.*?) "  "(,|\);)"$/mg) {
		my ($parameter, $end) = ($1, $2);
		my ($before, $word) = $parameter =~ /^(.*[ *])(\w+(?:\[\w*\])?)$/;
		$result .= defined $word ? ".BI \"$open$before\" $word $end\n" : ".B \"$open$parameter$end\"\n";
		$open = $indent;
	}
	return $result;
}

sub prose {
	my ($text) = @_;
	$text =~ s/^\n+//;
	$text =~ s/^\.IP "(.*)" 12$/.TP\n.I $1/mg;
	$text =~ s/\\fB(voxshm_\w+)\\fP/\\fB$1\\fP(3)/g;
	$text =~ s/\\fB(\w+)\\fP(?!\()/\\fB$1\\fP()/g;
	$text =~ s/(?<!\\)-(?=E[A-Z]|\d)/\\%\\-/g;
	$text =~ s/^'/\\&'/mg;
	$text =~ s/$AT/@/g;
	return $text;
}
