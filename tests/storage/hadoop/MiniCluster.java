import java.io.BufferedReader;
import java.io.File;
import java.io.FileOutputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FileStatus;
import org.apache.hadoop.fs.FileUtil;
import org.apache.hadoop.fs.LocalFileSystem;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.LocatedFileStatus;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.RemoteIterator;
import org.apache.hadoop.fs.permission.FsPermission;
import org.apache.hadoop.hdfs.DistributedFileSystem;
import org.apache.hadoop.hdfs.HdfsConfiguration;
import org.apache.hadoop.hdfs.MiniDFSCluster;
import org.apache.hadoop.hdfs.protocol.HdfsConstants;
import org.apache.hadoop.yarn.api.records.ApplicationId;
import org.apache.hadoop.yarn.conf.YarnConfiguration;
import org.apache.hadoop.yarn.server.MiniYARNCluster;
import org.apache.hadoop.yarn.server.resourcemanager.rmapp.RMApp;

/**
 * HDFS (a namenode, two datanodes) and YARN (a resource manager, a node manager) on loopback, for tests.
 *
 * <p>{@code MiniCluster FOLDER MEGABYTES} keeps everything below FOLDER, writes what clients need into FOLDER/conf
 * (HADOOP_CONF_DIR), prints {@code ready hdfs://...}, and then obeys one command a line of standard input, its words
 * separated by tabs. Each is answered by one line: {@code ok} and what was asked for, or {@code failed} and why. It ends
 * when standard input ends. The node manager promises MEGABYTES of memory, whatever the machine has.
 */
public final class MiniCluster {
    private static final String HOST = "127.0.0.1";

    private final File folder;
    private final MiniDFSCluster dfs;
    private final MiniYARNCluster yarn;
    private final Map<Integer, MiniDFSCluster.DataNodeProperties> stopped = new TreeMap<>();

    private MiniCluster(File folder, int megabytes) throws Exception {
        this.folder = folder;
        dfs = startHdfs();
        yarn = startYarn(megabytes);
        writeConfiguration();
    }

    public static void main(String[] arguments) {
        PrintStream answers = System.out;
        System.setOut(System.err); // what Hadoop prints is no answer
        try {
            serve(arguments, answers);
        } catch (Throwable error) {
            error.printStackTrace();
            System.exit(1);
        }
        System.exit(0); // some of Hadoop's threads are no daemons
    }

    private static void serve(String[] arguments, PrintStream answers) throws Exception {
        MiniCluster cluster = new MiniCluster(new File(arguments[0]), Integer.parseInt(arguments[1]));
        answers.println("ready\t" + cluster.dfs.getURI());
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            try {
                answers.println("ok\t" + oneLine(cluster.obey(Arrays.asList(line.split("\t")))));
            } catch (Exception error) {
                error.printStackTrace();
                answers.println("failed\t" + oneLine(error.toString()));
            }
        }
        cluster.yarn.stop();
        cluster.dfs.shutdown();
    }

    private MiniDFSCluster startHdfs() throws Exception {
        Configuration conf = new HdfsConfiguration();
        conf.set(MiniDFSCluster.HDFS_MINIDFS_BASEDIR, new File(folder, "dfs").getPath());
        conf.setInt("dfs.replication", 2);
        conf.setLong("dfs.namenode.fs-limits.min-block-size", 1024);
        conf.setInt("dfs.heartbeat.interval", 1);
        conf.setInt("dfs.namenode.heartbeat.recheck-interval", 2000); // a datanode that is gone is missed soon
        return new MiniDFSCluster.Builder(conf).numDataNodes(2).build();
    }

    private MiniYARNCluster startYarn(int megabytes) throws Exception {
        Configuration conf = new YarnConfiguration();
        conf.set("fs.defaultFS", dfs.getURI().toString());
        conf.setBoolean(YarnConfiguration.YARN_MINICLUSTER_FIXED_PORTS, true); // else it binds to the host's name
        for (String service : new String[] {"", ".scheduler", ".resource-tracker", ".admin", ".webapp"}) {
            conf.set("yarn.resourcemanager" + service + ".address", HOST + ":" + freePort());
        }
        conf.set("yarn.resourcemanager.hostname", HOST);
        conf.set("yarn.nodemanager.hostname", HOST);
        for (String service : new String[] {"", ".localizer", ".collector-service", ".webapp"}) {
            conf.set("yarn.nodemanager" + service + ".address", HOST + ":" + freePort());
        }
        conf.set("yarn.scheduler.capacity.root.queues", "default");
        conf.set("yarn.scheduler.capacity.root.default.capacity", "100");
        conf.set("yarn.scheduler.capacity.maximum-am-resource-percent", "1");
        conf.setInt("yarn.nodemanager.resource.memory-mb", megabytes);
        conf.setInt("yarn.scheduler.maximum-allocation-mb", megabytes);
        conf.setInt("yarn.minicluster.yarn.nodemanager.resource.memory-mb", megabytes);
        conf.setInt("yarn.nodemanager.resource.cpu-vcores", 64);
        conf.setBoolean("yarn.nodemanager.pmem-check-enabled", true);
        conf.setBoolean("yarn.nodemanager.vmem-check-enabled", false);
        conf.setInt("yarn.nodemanager.container-monitor.interval-ms", 500);
        conf.setBoolean("yarn.nodemanager.disk-health-checker.enable", false);
        // containers as small as they are asked for, so that one can be too small
        conf.setInt("yarn.scheduler.minimum-allocation-mb", 64);
        conf.setInt("yarn.resourcemanager.am.max-attempts", 2);
        // each application brings its environment of 400 MB: those of ended ones go soon
        conf.setInt("yarn.nodemanager.localizer.cache.target-size-mb", 1024);
        conf.setInt("yarn.nodemanager.localizer.cache.cleanup.interval-ms", 20_000);
        MiniYARNCluster cluster = new MiniYARNCluster("yarn", 1, 1, 1, 1);
        cluster.init(conf);
        cluster.start();
        if (!cluster.waitForNodeManagersToConnect(30_000)) {
            throw new IllegalStateException("the node manager did not connect");
        }
        return cluster;
    }

    /** Writes addresses and nothing else: the servers' own settings name classes that Spark does not have. */
    private void writeConfiguration() throws Exception {
        File target = new File(folder, "conf");
        target.mkdirs();
        write(target, "core-site.xml", Map.of("fs.defaultFS", dfs.getURI().toString()));
        write(target, "hdfs-site.xml", Map.of("dfs.replication", "2"));
        Map<String, String> addresses = new TreeMap<>();
        for (String service : new String[] {"", ".scheduler", ".webapp"}) {
            String key = "yarn.resourcemanager" + service + ".address";
            addresses.put(key, yarn.getConfig().get(key));
        }
        write(target, "yarn-site.xml", addresses);
    }

    private static void write(File target, String name, Map<String, String> settings) throws Exception {
        Configuration conf = new Configuration(false);
        settings.forEach(conf::set);
        try (OutputStream out = new FileOutputStream(new File(target, name))) {
            conf.writeXml(out);
        }
    }

    private String obey(List<String> words) throws Exception {
        FileSystem fs = dfs.getFileSystem();
        switch (words.get(0)) {
            case "stop-datanode": {
                int number = Integer.parseInt(words.get(1));
                stopped.put(number, dfs.stopDataNode(number));
                return "";
            }
            case "start-datanodes": {
                for (MiniDFSCluster.DataNodeProperties properties : stopped.values()) {
                    dfs.restartDataNode(properties, true);
                }
                stopped.clear();
                dfs.waitActive();
                return "";
            }
            case "safe-mode": {
                boolean on = words.get(1).equals("on");
                ((DistributedFileSystem) fs).setSafeMode(on ? HdfsConstants.SafeModeAction.SAFEMODE_ENTER
                        : HdfsConstants.SafeModeAction.SAFEMODE_LEAVE);
                return "";
            }
            case "quota": { // of names and of bytes; 0: none
                long names = Long.parseLong(words.get(2));
                long bytes = Long.parseLong(words.get(3));
                ((DistributedFileSystem) fs).setQuota(new Path(words.get(1)),
                        names == 0 ? HdfsConstants.QUOTA_RESET : names,
                        bytes == 0 ? HdfsConstants.QUOTA_RESET : bytes);
                return "";
            }
            case "stop-namenode":
                dfs.getNameNode(0).stop(); // restarting it wants the object that shutting down would drop
                return "";
            case "start-namenode":
                dfs.restartNameNode(0, true);
                return "";
            case "mkdir": { // path, owner, mode
                Path path = new Path(words.get(1));
                fs.mkdirs(path);
                fs.setOwner(path, words.get(2), words.get(2));
                fs.setPermission(path, new FsPermission(words.get(3)));
                return "";
            }
            case "put": { // a local file or folder, path
                fs.copyFromLocalFile(false, true, new Path(words.get(1)), new Path(words.get(2)));
                return "";
            }
            case "get": { // path, a local place
                LocalFileSystem local = FileSystem.getLocal(fs.getConf());
                FileUtil.copy(fs, new Path(words.get(1)), local.getRawFileSystem(), new Path(words.get(2)), false,
                        fs.getConf());
                return "";
            }
            case "delete":
                return String.valueOf(fs.delete(new Path(words.get(1)), true));
            case "exists":
                return String.valueOf(fs.exists(new Path(words.get(1))));
            case "names": { // of a folder
                List<String> names = new ArrayList<>();
                for (FileStatus status : fs.listStatus(new Path(words.get(1)))) {
                    names.add(status.getPath().getName());
                }
                return String.join("\t", names);
            }
            case "owners": { // of all files below a folder
                List<String> owners = new ArrayList<>();
                RemoteIterator<LocatedFileStatus> files = fs.listFiles(new Path(words.get(1)), true);
                while (files.hasNext()) {
                    owners.add(files.next().getOwner());
                }
                return String.join("\t", owners);
            }
            case "application": { // state, final status, attempts, diagnostics
                RMApp application = application(words.get(1));
                return String.join("\t", application.getState().toString(),
                        application.getFinalApplicationStatus().toString(),
                        String.valueOf(application.getAppAttempts().size()),
                        application.getDiagnostics().toString());
            }
            case "applications": {
                List<String> ids = new ArrayList<>();
                yarn.getResourceManager().getRMContext().getRMApps().keySet().forEach(id -> ids.add(id.toString()));
                return String.join("\t", ids);
            }
            case "logs":
                return new File(yarn.getTestWorkDir().getPath()).getAbsolutePath();
            default:
                throw new IllegalArgumentException("no command " + words.get(0));
        }
    }

    private RMApp application(String id) {
        RMApp found = yarn.getResourceManager().getRMContext().getRMApps().get(ApplicationId.fromString(id));
        if (found == null) {
            throw new IllegalArgumentException("no application " + id);
        }
        return found;
    }

    private static int freePort() throws Exception {
        try (ServerSocket socket = new ServerSocket(0, 1, InetAddress.getByName(HOST))) {
            return socket.getLocalPort();
        }
    }

    private static String oneLine(String text) {
        return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "");
    }
}
