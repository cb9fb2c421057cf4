import com.sun.management.OperatingSystemMXBean;
import io.confluent.parallelconsumer.ParallelConsumerOptions;
import io.confluent.parallelconsumer.ParallelConsumerOptions.CommitMode;
import io.confluent.parallelconsumer.ParallelConsumerOptions.ProcessingOrder;
import io.confluent.parallelconsumer.ParallelStreamProcessor;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.lang.management.ManagementFactory;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicIntegerArray;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * Slow work by key: {@code ParallelConsumer BOOTSTRAP TOPIC GROUP THREADS WARM}, the answer in JSON.
 *
 * <p>A message's value is its number; what each takes, in milliseconds, is read from standard input, a line for each.
 * From the begin of the first message to the last one's end; processor time from the assignment, so that fetching is in
 * it, in ticks of 10 ms, as Java tells it. Each message must have been performed once, and those of a key in order. The
 * topic is read WARM times before, each time by a group of its own, so that what is measured is compiled code.
 */
final class ParallelConsumer {
    private static final OperatingSystemMXBean SYSTEM =
            (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();

    private final int[] takes;
    private final AtomicIntegerArray times;
    private final String[] keys;
    private final long[] began;
    private final long[] ended;
    private final AtomicInteger left;
    private final CountDownLatch all = new CountDownLatch(1);
    private volatile long cpu;

    private ParallelConsumer(int[] takes) {
        this.takes = takes;
        times = new AtomicIntegerArray(takes.length);
        keys = new String[takes.length];
        began = new long[takes.length];
        ended = new long[takes.length];
        left = new AtomicInteger(takes.length);
    }

    public static void main(String[] arguments) {
        try {
            System.out.println(answer(arguments[0], arguments[1], arguments[2], arguments[3], arguments[4]));
        } catch (Throwable error) {
            error.printStackTrace();
            System.exit(1);
        }
        System.exit(0); // threads of a consumer that is closed linger until they are collected
    }

    private static String answer(String bootstrap, String topic, String group, String threads, String warm)
            throws IOException, InterruptedException {
        int[] takes = lines();
        for (int number = 0; number < Integer.parseInt(warm); number++) {
            new ParallelConsumer(takes).run(bootstrap, topic, group + "-warm-" + number, Integer.parseInt(threads));
        }
        return new ParallelConsumer(takes).run(bootstrap, topic, group, Integer.parseInt(threads));
    }

    private static int[] lines() throws IOException {
        try (BufferedReader input = new BufferedReader(new InputStreamReader(System.in))) {
            return input.lines().mapToInt(Integer::parseInt).toArray();
        }
    }

    /** One reading of the topic; the answer. Its end commits. */
    private String run(String bootstrap, String topic, String group, int threads) throws InterruptedException {
        // As its README has it; the sizes of buffers that it also speaks of are for order by partition.
        KafkaConsumer<String, String> consumer = new KafkaConsumer<>(
                Map.of(
                        ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap,
                        ConsumerConfig.GROUP_ID_CONFIG, group,
                        ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest",
                        ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, false),
                new StringDeserializer(),
                new StringDeserializer());
        ParallelConsumerOptions<String, String> options = ParallelConsumerOptions.<String, String>builder()
                .consumer(consumer)
                .ordering(ProcessingOrder.KEY)
                .maxConcurrency(threads)
                .commitMode(CommitMode.PERIODIC_CONSUMER_ASYNCHRONOUS)
                .build();
        ParallelStreamProcessor<String, String> processor = ParallelStreamProcessor.createEosStreamProcessor(options);
        processor.subscribe(List.of(topic), new Beginning());
        processor.poll(context -> perform(context.getSingleConsumerRecord()));
        boolean done = all.await(120, TimeUnit.SECONDS);
        processor.close();
        if (!done) {
            throw new IllegalStateException(takes.length + " sent, " + left + " were not performed in two minutes");
        }
        return verdict();
    }

    private void perform(ConsumerRecord<String, String> message) {
        int number = Integer.parseInt(message.value());
        long now = System.nanoTime();
        try {
            Thread.sleep(takes[number]);
        } catch (InterruptedException error) {
            throw new IllegalStateException(error);
        }
        times.incrementAndGet(number);
        keys[number] = message.key();
        began[number] = now;
        ended[number] = System.nanoTime();
        if (left.decrementAndGet() == 0) {
            cpu = SYSTEM.getProcessCpuTime() - cpu;
            all.countDown();
        }
    }

    /** Throws where the ledger does not add up. */
    private String verdict() {
        Map<String, Integer> before = new HashMap<>();
        for (int number = 0; number < takes.length; number++) {
            if (times.get(number) != 1) {
                throw new IllegalStateException(number + " was performed " + times.get(number) + " times");
            }
            Integer last = before.put(keys[number], number);
            if (last != null && ended[last] - began[number] > 0) {
                throw new IllegalStateException(number + " began before " + last + " ended, of the same key");
            }
        }
        double wall = (Arrays.stream(ended).max().getAsLong() - Arrays.stream(began).min().getAsLong()) / 1e9;
        return String.format(Locale.ROOT, "{\"wall\": %f, \"cpu\": %f, \"count\": %d}", wall, cpu / 1e9, takes.length);
    }

    private final class Beginning implements ConsumerRebalanceListener {
        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            cpu = SYSTEM.getProcessCpuTime();
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {}
    }
}
